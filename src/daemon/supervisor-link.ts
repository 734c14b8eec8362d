import type { DaemonMessage, SupervisorMessage } from './supervisor.ts';

/** The daemon's end of the channel to its supervisor. Without a supervisor nothing is said and nothing awaited. */

const PATIENCE_MS = 5_000;
let lastId = 0;

/** Process id of the supervisor, while there is one. */
export function supervisorPid(): number | undefined {
  return process.connected ? process.ppid : undefined;
}

export function tell(message: DaemonMessage): void {
  if (process.connected) process.send?.(message);
}

/**
 * Has the supervisor look up paths below our own FUSE mount, so that the kernel knows the names when a thread of this
 * process comes upon them. Resolves when that is done, or the supervisor is gone.
 */
export function lookUp(paths: string[]): Promise<void> {
  if (!process.connected || paths.length === 0) return Promise.resolve();
  const id = ++lastId;
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(patience);
      process.off('message', listen);
      process.off('disconnect', end);
      resolve();
    };
    const listen = (message: SupervisorMessage) => {
      if (message.type === 'looked-up' && message.id === id) end();
    };
    // One that is stopped answers nobody; the mount is then made at the small risk that this was to avoid.
    const patience = setTimeout(end, PATIENCE_MS);
    process.on('message', listen);
    process.on('disconnect', end);
    tell({ type: 'look-up', id, paths });
  });
}
