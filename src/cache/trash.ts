import { randomUUID } from 'node:crypto';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Disk } from './disk.ts';
import { type Log, messageOf } from './health.ts';

/** Deleting in two steps: out of the way at once (a rename), then away in the background. */
export interface Trash {
  /** Resolves when `path` is out of the way; what is absent is so already. */
  discard(path: string): Promise<void>;
  /** Begins to remove what an earlier process left behind. */
  empty(): Promise<void>;
  /** Resolves when all that was discarded is removed. */
  settled(): Promise<void>;
}

export function createTrash(disk: Disk, directory: string, log: Log): Trash {
  const pending = new Set<Promise<void>>();

  function removeLater(path: string): void {
    const removal = disk
      .remove(path)
      .catch((error) => log('warn', 'a discarded file was not removed', { path, error: messageOf(error) }))
      .finally(() => pending.delete(removal));
    pending.add(removal);
  }

  return {
    async discard(path) {
      const target = join(directory, randomUUID());
      try {
        await disk.rename(path, target);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
        throw error;
      }
      removeLater(target);
    },
    async empty() {
      for (const name of await readdir(directory)) removeLater(join(directory, name));
    },
    async settled() {
      await Promise.all(pending);
    },
  };
}
