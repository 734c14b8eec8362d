/**
 * The supervisor holds the descriptors of /dev/fuse and starts the daemon with them. When the daemon dies, the kernel
 * keeps the requests that it had taken, readers wait, and the next daemon asks for them again. So this module is small,
 * imports nothing but Node's own modules, and reads nothing that comes from outside.
 *
 * When the supervisor dies, the daemon, which has the descriptors too, starts another (`supervisor-link.ts`), and that one
 * adopts it. So the connection is lost only if both die in the same instant, and nobody keeps a copy (`service-manager.ts`).
 *
 * It also looks up names below our FUSE mount for the daemon. A thread of the daemon that waits for the daemon's own
 * answer cannot be killed once the request was taken: the process would never end, and the next would never start.
 *
 * A daemon of another version is started beside the one that serves (`succession.ts`). When it could begin, the old one
 * ends, and it takes up the connection; where it does not, the old version is started again. Then it starts a supervisor
 * of its own version, and this one ends.
 */
import { closeSync, openSync, rmSync } from 'node:fs';
import { prepareSuccessor, type Successor } from './succession.ts';
import { FUSE_FD, type Held, LIVED_MS, TREES_FD } from './supervision.ts';
import { type Adopted, adopted, type Listener, started, type Watched } from './watched.ts';

export interface SupervisorOptions {
  /** The daemon: program and arguments. */
  command: readonly string[];
  /** False for a daemon that mounts by itself: a crash then ends its mounts, and the next daemon makes them again. */
  fuse?: boolean;
  /** Descriptors of /dev/fuse with connections on which another daemon has served, kept by the service manager. */
  stored?: { fuse?: number; trees?: number };
  /** False for a daemon that was started without a second descriptor, and is adopted. */
  trees?: boolean;
  /**
   * The daemon that started this process is watched first, and /dev/fuse is {@link FUSE_FD} already, and {@link TREES_FD}
   * unless `trees` is false.
   */
  adopt?: Adopted;
  /** One line for the log. */
  log: (message: string) => void;
  /** Times in ms: first pause before a restart (doubling up to the last), grace of a stop. */
  firstPause?: number;
  lastPause?: number;
  grace?: number;
}

/**
 * Runs daemons, one after another, until one ends by itself, a signal asks for it, or another supervisor has come.
 * @returns the exit status for this process.
 */
export async function supervise(options: SupervisorOptions): Promise<number> {
  const { firstPause = 50, lastPause = 5_000, grace = 15_000, adopt, stored } = options;
  const standIn = adopt !== undefined;
  let { command } = options;
  let { fuse, trees } = firstHeld();
  const lost = { fuse: false, trees: false };
  let served = standIn;
  let stopping = false;
  let daemon: Watched | undefined;
  let preparing = false;
  let successor: Successor | undefined;
  let wake = () => {};
  let relieve = () => {};
  const relieved = new Promise<undefined>((resolve) => {
    relieve = () => resolve(undefined);
  });
  const sockets = new Set<string>();

  const stop = () => {
    if (stopping) return;
    stopping = true;
    wake();
    successor?.daemon.kill('SIGKILL');
    daemon?.kill('SIGTERM');
    setTimeout(() => daemon?.kill('SIGKILL'), grace).unref();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  function firstHeld(): { fuse?: Held; trees?: Held } {
    if (options.fuse === false) return {};
    const held = (fd: number) => ({ fd, inherited: false });
    if (standIn) return { fuse: held(FUSE_FD), ...(options.trees === false ? {} : { trees: held(TREES_FD) }) };
    return { fuse: opened(stored?.fuse), trees: opened(stored?.trees) };
  }

  const listen: Listener = (message) => {
    if (message.type === 'mounted' && fuse !== undefined) fuse.inherited = true;
    else if (message.type === 'trees-mounted' && trees !== undefined) trees.inherited = true;
    else if (message.type === 'ready') served = true;
    else if (message.type === 'lost') lost.fuse = true;
    else if (message.type === 'trees-lost') lost.trees = true;
    else if (message.type === 'listening') sockets.add(message.path);
    else if (message.type === 'successor') void prepare(message.command, message.limit);
    else if (message.type === 'relieved') relieve();
  };

  /** Has a successor ready, and the daemon end for it. */
  async function prepare(next: readonly string[], limit: number): Promise<void> {
    if (preparing || !fuse?.inherited) return daemon?.send({ type: 'declined', why: 'it cannot be handed over now' });
    preparing = true;
    const found = await prepareSuccessor(next, limit, { fuse, trees }, listen);
    preparing = false;
    if ('why' in found) return daemon?.send({ type: 'declined', why: found.why });
    const fits = found.servesTrees || !trees?.inherited;
    if (!fits)
      daemon?.send({
        type: 'declined',
        why: 'it does not know of a second connection; unmount the FUSE trees of images',
      });
    if (stopping || lost.fuse || !fits) found.daemon.kill('SIGKILL');
    else {
      successor = found;
      daemon?.send({ type: 'hand-over' });
    }
  }

  /** Lets a successor begin. It is the daemon from then on, if it serves. */
  async function succeed(follower: Successor): Promise<void> {
    daemon = follower.daemon;
    const why = await follower.begin();
    if (why === undefined) {
      command = follower.command;
      daemon.send({ type: 'resign' });
      return;
    }
    daemon = undefined;
    if (!stopping) options.log(`the other version did not take over: ${why}; starting the one before again`);
  }

  /** What it was told of the second connection when it was started holds no more. */
  const isOutdated = ({ inheritsTrees }: Successor) => lost.trees || inheritsTrees !== (trees?.inherited === true);

  try {
    let pause = 0;
    let next = firstPause;
    daemon = adopt && adopted(adopt, listen);
    for (;;) {
      const begun = performance.now();
      daemon ??= started(command, listen, { fuse, trees, pause });
      daemon.send({ type: 'watching', standIn });
      const end = await Promise.race([daemon.ended, relieved]);
      if (end === undefined) return 0;
      daemon = undefined;
      // containerd waits for a socket that is absent, and for one where nobody listens it rests some seconds.
      for (const path of sockets) rmSync(path, { force: true });
      const follower = successor;
      successor = undefined;
      if (follower !== undefined && (lost.fuse || stopping || isOutdated(follower))) follower.daemon.kill('SIGKILL');
      else if (follower !== undefined) {
        await succeed(follower);
        pause = 0;
        next = firstPause;
        if (daemon !== undefined || !stopping) continue;
      }
      // Where nothing was served yet nobody waits: say it at once instead of trying for ever.
      if ((end === 0 && follower === undefined) || stopping || !served) return typeof end === 'number' ? end : 1;
      if (lost.fuse) fuse = fuse && renewed(fuse);
      if (lost.trees) trees = trees && renewed(trees);
      lost.fuse = lost.trees = false;
      const lived = performance.now() - begun;
      // One that ended in its pause has not got far enough to wait.
      const rest = Math.max(pause - lived, 0);
      pause = lived > LIVED_MS ? firstPause : next;
      next = Math.min(pause * 2, lastPause);
      options.log(`the daemon ended (${end}); starting it again in ${rest + pause} ms`);
      if (rest > 0)
        await new Promise<void>((resolve) => {
          wake = resolve;
          setTimeout(resolve, rest);
        });
      if (stopping) return 1;
    }
  } finally {
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
    for (const held of [fuse, trees]) if (held !== undefined) closeSync(held.fd);
  }
}

/** @param kept one on which a daemon has served; a new one without it */
function opened(kept?: number): Held {
  return { fd: kept ?? openSync('/dev/fuse', 'r+'), inherited: kept !== undefined };
}

function renewed({ fd }: Held): Held {
  const next = opened();
  closeSync(fd);
  return next;
}
