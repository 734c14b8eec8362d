/**
 * The supervisor holds the one descriptor of /dev/fuse and starts the daemon with it. When the daemon dies, the kernel
 * keeps the requests that it had taken, readers wait, and the next daemon asks for them again. So this module is small,
 * imports nothing but Node's own modules, and reads nothing that comes from outside.
 *
 * It also looks up names below our FUSE mount for the daemon. A thread of the daemon that waits for the daemon's own
 * answer cannot be killed once the request was taken: the process would never end, and the next would never start.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { stat } from 'node:fs/promises';

/** The daemon finds /dev/fuse here. */
export const FUSE_FD = 3;
/** Set for a daemon that inherits a connection on which another has served before. */
export const INHERITED_ENV = 'NYMPH_FUSE_INHERITED';

/** What the daemon tells the supervisor (Node's IPC channel). */
export type DaemonMessage =
  | { type: 'mounted' }
  | { type: 'ready' }
  /** The FUSE connection is gone: somebody unmounted it. The next daemon needs a new one. */
  | { type: 'lost' }
  /** The kernel should ask for these names. */
  | { type: 'look-up'; id: number; paths: string[] };
/** What the supervisor answers. */
export type SupervisorMessage = { type: 'looked-up'; id: number };

export interface SupervisorOptions {
  /** The daemon's entry point and its arguments. */
  script: string;
  arguments: string[];
  /** False for a daemon that mounts by itself: a crash then ends its mounts, and the next daemon makes them again. */
  fuse?: boolean;
  /** One line for the log. */
  log: (message: string) => void;
  /** Times in ms: first pause before a restart (doubling up to the last), grace of a stop. */
  firstPause?: number;
  lastPause?: number;
  grace?: number;
}

/** Small heaps, few arenas: the daemon runs on every node. */
const NODE_FLAGS = ['--max-semi-space-size=2', '--disable-warning=ExperimentalWarning'];
const ENVIRONMENT = { MALLOC_ARENA_MAX: '2', UV_THREADPOOL_SIZE: '8' };
/** A daemon that lived this long has started well: the next pause is the first again. */
const LIVED_MS = 30_000;

/**
 * Runs daemons, one after another, until one ends by itself or a signal asks for it.
 * @returns the exit status for this process.
 */
export async function supervise(options: SupervisorOptions): Promise<number> {
  const { firstPause = 50, lastPause = 5_000, grace = 15_000 } = options;
  const open = () => (options.fuse === false ? undefined : openSync('/dev/fuse', 'r+'));
  let fuse = open();
  let inherited = false;
  let lost = false;
  let served = false;
  let stopping = false;
  let child: ChildProcess | undefined;
  let wake = () => {};

  const stop = () => {
    if (stopping) return;
    stopping = true;
    wake();
    child?.kill('SIGTERM');
    setTimeout(() => child?.kill('SIGKILL'), grace).unref();
  };
  process.on('SIGTERM', stop);
  process.on('SIGINT', stop);

  try {
    for (let pause = firstPause; ; ) {
      const begun = Date.now();
      const daemon = spawn(process.execPath, [...NODE_FLAGS, options.script, ...options.arguments], {
        stdio: ['ignore', 'inherit', 'inherit', fuse ?? 'ignore', 'ipc'],
        env: { ...process.env, ...ENVIRONMENT, ...(inherited ? { [INHERITED_ENV]: '1' } : {}) },
      });
      child = daemon;
      daemon.on('message', (message: DaemonMessage) => {
        if (message.type === 'mounted') inherited = fuse !== undefined;
        else if (message.type === 'ready') served = true;
        else if (message.type === 'lost') lost = true;
        else void lookUp(daemon, message.id, message.paths);
      });
      const end = await ended(daemon);
      // Where nothing was served yet nobody waits: say it at once instead of trying for ever.
      if (end === 0 || stopping || !served) return typeof end === 'number' ? end : 1;
      if (lost) {
        if (fuse !== undefined) closeSync(fuse);
        fuse = open();
        inherited = lost = false;
      }
      if (Date.now() - begun > LIVED_MS) pause = firstPause;
      options.log(`the daemon ended (${end}); starting it again in ${pause} ms`);
      await new Promise<void>((resolve) => {
        wake = resolve;
        setTimeout(resolve, pause);
      });
      if (stopping) return 1;
      pause = Math.min(pause * 2, lastPause);
    }
  } finally {
    process.off('SIGTERM', stop);
    process.off('SIGINT', stop);
    if (fuse !== undefined) closeSync(fuse);
  }
}

async function lookUp(daemon: ChildProcess, id: number, paths: string[]): Promise<void> {
  // A name that is not there is for the daemon to find.
  await Promise.allSettled(paths.map((path) => stat(path)));
  const answer: SupervisorMessage = { type: 'looked-up', id };
  // It may have died meanwhile: then nobody waits.
  if (daemon.connected) daemon.send(answer, () => {});
}

/** Exit status, or the signal's name, or why it could not start. */
function ended(child: ChildProcess): Promise<number | string> {
  return new Promise((resolve) => {
    child.once('exit', (status, signal) => resolve(status ?? signal ?? 'unknown'));
    child.once('error', (error) => resolve(error.message));
  });
}
