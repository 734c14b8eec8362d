/**
 * A place for trials that leaves nothing behind: a directory of its own, processes, mounts. What was begun is ended in
 * reverse order when the work is done, when it fails, and at Ctrl-C.
 */
import { mkdtemp, realpath, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { umount } from '../src/mount/kernel.ts';
import { readMounts } from '../src/mount/mountinfo.ts';

export interface Lab {
  /** Absolute real path of a directory that goes away with the lab. */
  readonly directory: string;
  /** Has something undone at the end, before all that was registered earlier. */
  later(undo: () => unknown): void;
}

const SIGNALS = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;

/**
 * Runs `work` in a new lab and takes the lab away afterwards, whatever happens. A signal ends the process when that is done.
 * @param parent existing directory in which the lab's own is made
 * @returns what `work` returns; rejects with what it throws
 */
export async function inLab<T>(parent: string, name: string, work: (lab: Lab) => Promise<T>): Promise<T> {
  const directory = await realpath(await mkdtemp(join(parent, `${name}-`)));
  const undos: (() => unknown)[] = [];
  let closing: Promise<void> | undefined;
  let status: number | undefined;
  const close = (): Promise<void> => (closing ??= takeAway(directory, undos));
  const handlers = Object.entries(SIGNALS).map(([signal, code]) => {
    const handler = (): void => {
      status ??= code;
      void close().finally(() => process.exit(code));
    };
    process.on(signal, handler);
    return () => process.off(signal, handler);
  });
  try {
    return await work({
      directory,
      later: (undo) => {
        // Begun while the lab was being taken away: undone at once.
        if (closing === undefined) undos.push(undo);
        else undo();
      },
    });
  } finally {
    await close();
    // Interrupted: what `work` met when its parts went away is no news.
    if (status !== undefined) process.exit(status);
    for (const off of handlers) off();
  }
}

async function takeAway(directory: string, undos: (() => unknown)[]): Promise<void> {
  for (let undo = undos.pop(); undo !== undefined; undo = undos.pop()) {
    try {
      await undo();
    } catch (error) {
      complain(error);
    }
  }
  try {
    await unmountBelow(directory);
    await rm(directory, { recursive: true, force: true });
  } catch (error) {
    complain(error);
  }
}

/** Unmounts all that is mounted in a directory, the last first, so that nothing is removed through a mount. */
export async function unmountBelow(directory: string): Promise<void> {
  const mounts = (await readMounts()).filter((entry) => entry.directory.startsWith(`${directory}/`));
  for (const { directory: target } of mounts.reverse()) {
    const refusal = await umount(target, true);
    if (refusal !== undefined) throw new Error(`cannot unmount ${target}: ${refusal.message}`);
  }
}

function complain(error: unknown): void {
  console.error(`clean-up: ${(error as Error).message}`);
  process.exitCode = 1;
}
