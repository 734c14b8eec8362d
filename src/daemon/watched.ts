/** Daemons as their supervisor sees them. Like `supervisor.ts`, only Node's own modules. */
import { spawn } from 'node:child_process';
import { stat } from 'node:fs/promises';
import {
  type DaemonMessage,
  type Held,
  INHERITED_ENV,
  PAUSE_ENV,
  SUCCESSOR_ENV,
  type SupervisorMessage,
  TREES_ENV,
} from './supervision.ts';

/** A daemon that is watched. */
export interface Watched {
  kill(signal: NodeJS.Signals): void;
  send(message: SupervisorMessage): void;
  /** Exit status, the signal's name, or why it could not start. */
  ended: Promise<number | string>;
}

export type Listener = (message: DaemonMessage, daemon: Watched) => void;

/** The daemon that started this process, and what it told the supervisor before. */
export interface Adopted {
  pid: number;
  told: DaemonMessage[];
}

const ENVIRONMENT = { MALLOC_ARENA_MAX: '2', UV_THREADPOOL_SIZE: '8' };

/** A child of this process. */
export function started(
  [program, ...args]: readonly string[],
  listen: Listener,
  { fuse, trees, pause, successor = false }: { fuse?: Held; trees?: Held; pause: number; successor?: boolean },
): Watched {
  const child = spawn(program, args, {
    stdio: ['ignore', 'inherit', 'inherit', fuse?.fd ?? 'ignore', 'ipc', trees?.fd ?? 'ignore'],
    env: {
      ...process.env,
      ...ENVIRONMENT,
      [INHERITED_ENV]: fuse?.inherited ? '1' : '',
      [TREES_ENV]: trees && (trees.inherited ? 'inherited' : 'new'),
      [PAUSE_ENV]: String(pause),
      [SUCCESSOR_ENV]: successor ? '1' : '',
    },
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
  child.on('message', (message: DaemonMessage) => hear(message, daemon, listen));
  return daemon;
}

/** The daemon that started this process. The channel to it closes when its last thread has ended, as its locks do. */
export function adopted({ pid, told }: Adopted, listen: Listener): Watched {
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
    hear(message, daemon, listen);
  });
  return daemon;
}

function hear(message: DaemonMessage, daemon: Watched, listen: Listener): void {
  if (message.type === 'look-up') void lookUp(daemon, message.id, message.paths);
  else listen(message, daemon);
}

async function lookUp(daemon: Watched, id: number, paths: string[]): Promise<void> {
  // A name that is not there is for the daemon to find.
  await Promise.allSettled(paths.map((path) => stat(path)));
  daemon.send({ type: 'looked-up', id });
}
