import { type Log, messageOf } from '../cache/health.ts';
import type { Directories } from './directories.ts';
import type { LazyLayers } from './lazy.ts';

/** What snapshots that are gone still hold: lazily served images first, then directories. All of it in the background. */
export interface Releases {
  /** The snapshot has no record any more. */
  release(id: number): void;
  /** Ids that hold something yet. */
  pending(): Iterable<number>;
  /** Tries again what failed; resolves when all is released or has failed. */
  settled(): Promise<void>;
}

export function createReleases(directories: Directories, lazy: LazyLayers | undefined, log: Log): Releases {
  const running = new Map<number, Promise<void>>();
  const failed = new Set<number>();

  function release(id: number): void {
    const work = letGo(id)
      .then(() => failed.delete(id))
      .catch((error) => {
        failed.add(id);
        log('warn', 'a removed snapshot cannot be let go yet', { id, error: messageOf(error) });
      })
      .finally(() => running.delete(id));
    running.set(
      id,
      work.then(() => undefined),
    );
  }

  async function letGo(id: number): Promise<void> {
    await lazy?.release(id);
    await directories.discard(id);
  }

  return {
    release,
    pending: () => [...running.keys(), ...failed],
    async settled() {
      for (const id of failed) if (!running.has(id)) release(id);
      await Promise.all(running.values());
    },
  };
}
