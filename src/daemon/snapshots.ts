import { chmod } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import type { Log } from '../cache/health.ts';
import { createContentStore } from '../containerd/content.ts';
import { NymphError } from '../errors.ts';
import { createDoor } from '../snapshotter/door.ts';
import { findOrigin } from '../snapshotter/find-origin.ts';
import { createLazyImages, type LazyImagesOptions } from '../snapshotter/lazy-images.ts';
import { openSnapshotter } from '../snapshotter/open.ts';
import { summary } from '../snapshotter/summary.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { SnapshotsStatus } from './api.ts';
import type { Config } from './config.ts';
import { wrongAddress } from './config-schema.ts';
import { claimSocket } from './socket.ts';

/** containerd's snapshots, as a part of the daemon. */
export interface Snapshots {
  /** Calls so far. */
  readonly calls: number;
  status(): Promise<SnapshotsStatus>;
  close(): Promise<void>;
}

/** Mounts for lazily served images: what the snapshotter needs of the rest of the daemon. */
export type ImageMounts = Pick<LazyImagesOptions, 'mount' | 'unmount' | 'mounted'>;

/** Opens the snapshots below `config.root` and serves them on `snapshotter.address`. */
export async function serveSnapshots(
  config: Config,
  images: ImageMounts,
  pool: ThreadPool,
  log: Log,
): Promise<Snapshots> {
  const content = createContentStore(config.containerd.address);
  const snapshotter = await openSnapshotter(config.root, pool, log, (directories) =>
    createLazyImages({
      ...images,
      directories,
      find: (layer, signal) => findOrigin(content, layer, signal),
      log,
    }),
  );
  const door = createDoor(snapshotter, log);
  const server = createServer((socket) => door.connect(socket));
  try {
    await listen(server, config.snapshotter.address);
  } catch (error) {
    await snapshotter.close();
    throw error;
  }
  return {
    get calls() {
      return door.calls;
    },
    status: () => summary(snapshotter),
    async close() {
      server.close();
      await door.close();
      await snapshotter.close();
      content.close();
    },
  };
}

async function listen(server: Server, address: string): Promise<void> {
  // The default follows from another path, which may just have fitted.
  const tooLong = wrongAddress(address);
  if (tooLong !== undefined) throw new NymphError('config', `snapshotter.address ${tooLong}: ${address}`);
  await claimSocket(address);
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(address, resolve);
  });
  await chmod(address, 0o600);
}
