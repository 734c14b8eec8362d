import { join } from 'node:path';
import type { Log } from '../cache/health.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { type Directories, openDirectories } from './directories.ts';
import { localDisk } from './disk.ts';
import { createDurability } from './durability.ts';
import { overlayOptions } from './kernel-options.ts';
import type { LazyLayers } from './lazy.ts';
import { createSnapshotter } from './service.ts';
import type { Snapshotter } from './snapshotter.ts';
import { openStore } from './store.ts';

/**
 * Opens the snapshots below nymph's root, made if need be. Whoever calls it holds the lock of that root.
 * @param lazyLayers whose directories are beside those of the snapshots; without it every image is unpacked
 * @throws NymphError `cache` if the records are damaged
 */
export async function openSnapshotter(
  root: string,
  pool: ThreadPool,
  log: Log,
  lazyLayers?: (directories: Directories) => LazyLayers,
): Promise<Snapshotter> {
  const directories = openDirectories(root, localDisk, pool, log);
  const path = join(directories.root, 'metadata.db');
  const store = openStore(path);
  const durability = await createDurability(path, log);
  const lazy = lazyLayers?.(directories);
  return createSnapshotter({ store, durability, directories, lazy, log, overlayOptions: overlayOptions() });
}
