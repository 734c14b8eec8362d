/**
 * The supervisor holds the one descriptor of /dev/fuse and starts the daemon with it. When the daemon dies, the kernel
 * keeps the requests that it had taken, readers wait, and the next daemon asks for them again. So this module is small,
 * imports nothing but Node's own modules, and reads nothing that comes from outside.
 *
 * When the supervisor dies, the daemon, which has the descriptor too, starts another (`supervisor-link.ts`), and that one
 * adopts it. So the connection is lost only if both die in the same instant.
 *
 * It also looks up names below our FUSE mount for the daemon. A thread of the daemon that waits for the daemon's own
 * answer cannot be killed once the request was taken: the process would never end, and the next would never start.
 */
import { spawn } from 'node:child_process';
import { closeSync, openSync, rmSync } from 'node:fs';
import { stat } from 'node:fs/promises';

/** The daemon finds /dev/fuse here, as does a supervisor that it starts. */
export const FUSE_FD = 3;
/** Set for a daemon that inherits a connection on which another has served before. */
export const INHERITED_ENV = 'NYMPH_FUSE_INHERITED';
/**
 * How long a daemon waits before it begins, ms. Waiting here, before it is started, this process alone would hold the
 * connection meanwhile.
 */
export const PAUSE_ENV = 'NYMPH_START_PAUSE';

/** What the daemon tells the supervisor (Node's IPC channel). */
export type DaemonMessage =
  | { type: 'mounted' }
  | { type: 'ready' }
  /** It serves containerd on this socket. */
  | { type: 'listening'; path: string }
  /** The FUSE connection is gone: somebody unmounted it. The next daemon needs a new one. */
  | { type: 'lost' }
  /** It ends now: who is not its parent cannot learn its exit status otherwise. */
  | { type: 'leaving'; status: number }
  /** The kernel should ask for these names. */
  | { type: 'look-up'; id: number; paths: string[] };
/** What the supervisor says. */
export type SupervisorMessage =
  /** From now on it is there, and heeds signals. `standIn`: it was started by a daemon, in the place of one that died. */
  { type: 'watching'; standIn: boolean } | { type: 'looked-up'; id: number };

export interface SupervisorOptions {
  /** The daemon's entry point and its arguments. */
  script: string;
  arguments: string[];
  /** False for a daemon that mounts by itself: a crash then ends its mounts, and the next daemon makes them again. */
  fuse?: boolean;
  /** A descriptor of /dev/fuse with a connection on which another daemon has served, kept by the service manager. */
  stored?: number;
  /**
   * The daemon that started this process: it is watched first, and /dev/fuse is {@link FUSE_FD} already. `told` is what it
   * told the supervisor before.
   */
  adopt?: { pid: number; told: DaemonMessage[] };
  /** One line for the log. */
  log: (message: string) => void;
  /** Times in ms: first pause before a restart (doubling up to the last), grace of a stop. */
  firstPause?: number;
  lastPause?: number;
  grace?: number;
}

/** A daemon that is watched. */
interface Watched {
  kill(signal: NodeJS.Signals): void;
  send(message: SupervisorMessage): void;
  /** Exit status, the signal's name, or why it could not start. */
  ended: Promise<number | string>;
}

type Listener = (message: DaemonMessage, daemon: Watched) => void;

/** Small heaps, few arenas: both processes run on every node. */
export const NODE_FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning'];
const ENVIRONMENT = { MALLOC_ARENA_MAX: '2', UV_THREADPOOL_SIZE: '8' };
/** What lived this long has started well: the next pause is the first again. */
export const LIVED_MS = 30_000;

/**
 * Runs daemons, one after another, until one ends by itself or a signal asks for it.
 * @returns the exit status for this process.
 */
export async function supervise(options: SupervisorOptions): Promise<number> {
  const { firstPause = 50, lastPause = 5_000, grace = 15_000, adopt } = options;
  const open = () => (options.fuse === false ? undefined : openSync('/dev/fuse', 'r+'));
  let fuse = adopt && options.fuse !== false ? FUSE_FD : (options.stored ?? open());
  let inherited = options.stored !== undefined;
  let lost = false;
  let served = adopt !== undefined;
  let stopping = false;
  let daemon: Watched | undefined;
  let wake = () => {};
  const sockets = new Set<string>();

  const stop = () => {
    if (stopping) return;
    stopping = true;
    wake();
    daemon?.kill('SIGTERM');
    setTimeout(() => daemon?.kill('SIGKILL'), grace).unref();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  const listen: Listener = (message, from) => {
    if (message.type === 'mounted') inherited = fuse !== undefined;
    else if (message.type === 'ready') served = true;
    else if (message.type === 'lost') lost = true;
    else if (message.type === 'listening') sockets.add(message.path);
    else if (message.type === 'look-up') void lookUp(from, message.id, message.paths);
  };

  try {
    for (let pause = 0, next = firstPause, first = true; ; first = false) {
      const begun = performance.now();
      daemon = first && adopt ? adopted(adopt, listen) : started(options, { fuse, inherited, pause, listen });
      daemon.send({ type: 'watching', standIn: adopt !== undefined });
      const end = await daemon.ended;
      // containerd waits for a socket that is absent, and for one where nobody listens it rests some seconds.
      for (const path of sockets) rmSync(path, { force: true });
      // Where nothing was served yet nobody waits: say it at once instead of trying for ever.
      if (end === 0 || stopping || !served) return typeof end === 'number' ? end : 1;
      if (lost) {
        if (fuse !== undefined) closeSync(fuse);
        fuse = open();
        inherited = lost = false;
      }
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
    if (fuse !== undefined) closeSync(fuse);
  }
}

/** A child of this process. */
function started(
  options: SupervisorOptions,
  { fuse, inherited, pause, listen }: { fuse?: number; inherited: boolean; pause: number; listen: Listener },
): Watched {
  const child = spawn(process.execPath, [...NODE_FLAGS, options.script, ...options.arguments], {
    stdio: ['ignore', 'inherit', 'inherit', fuse ?? 'ignore', 'ipc'],
    env: { ...process.env, ...ENVIRONMENT, [INHERITED_ENV]: inherited ? '1' : '', [PAUSE_ENV]: String(pause) },
  });
  const daemon: Watched = {
    kill: (signal) => child.kill(signal),
    // It may have died meanwhile: then nobody waits.
    send: (message) => child.connected && child.send(message, () => {}),
    ended: new Promise((resolve) => {
      child.once('exit', (status, signal) => resolve(status ?? signal ?? 'unknown'));
      child.once('error', (error) => resolve(error.message));
    }),
  };
  child.on('message', (message: DaemonMessage) => listen(message, daemon));
  return daemon;
}

/** The daemon that started this process. The channel to it closes when its last thread has ended, as its locks do. */
function adopted({ pid, told }: NonNullable<SupervisorOptions['adopt']>, listen: Listener): Watched {
  let end: number | string = 'killed';
  const daemon: Watched = {
    kill(signal) {
      // Its number may be another's once it is gone.
      if (!process.connected) return;
      try {
        process.kill(pid, signal);
      } catch {
        // The channel has not told yet that it is gone.
      }
    },
    send: (message) => process.connected && process.send?.(message, () => {}),
    ended: new Promise((resolve) => {
      process.once('disconnect', () => resolve(end));
      // It is gone already. What it said before is told in the next turn.
      if (!process.connected) setImmediate(() => resolve(end));
    }),
  };
  for (const message of told) listen(message, daemon);
  process.on('message', (message: DaemonMessage) => {
    if (message.type === 'leaving') end = message.status;
    listen(message, daemon);
  });
  return daemon;
}

async function lookUp(daemon: Watched, id: number, paths: string[]): Promise<void> {
  // A name that is not there is for the daemon to find.
  await Promise.allSettled(paths.map((path) => stat(path)));
  daemon.send({ type: 'looked-up', id });
}
