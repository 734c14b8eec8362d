import { join } from 'node:path';
import type { Log } from '../cache/health.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { openDirectories } from './directories.ts';
import { localDisk } from './disk.ts';
import { createDurability } from './durability.ts';
import { overlayOptions } from './kernel-options.ts';
import type { LazyLayers } from './lazy.ts';
import { createSnapshotter } from './service.ts';
import type { Snapshotter } from './snapshotter.ts';
import { openStore } from './store.ts';

/**
 * Opens the snapshots below nymph's root, made if need be. Whoever calls it holds the lock of that root.
 * @throws NymphError `cache` if the records are damaged
 */
export async function openSnapshotter(
  root: string,
  pool: ThreadPool,
  log: Log,
  lazy?: LazyLayers,
): Promise<Snapshotter> {
  const directories = openDirectories(root, localDisk, pool, log);
  const path = join(directories.root, 'metadata.db');
  const store = openStore(path);
  const durability = await createDurability(path, log);
  return createSnapshotter({ store, durability, directories, lazy, log, overlayOptions: overlayOptions() });
}
