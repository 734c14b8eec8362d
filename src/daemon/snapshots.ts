import { existsSync } from 'node:fs';
import { chmod } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import type { Log } from '../cache/health.ts';
import { connectContainerd } from '../containerd/connection.ts';
import { createContentStore } from '../containerd/content.ts';
import { clientKeyOf, findOrigin, namespaceOf } from '../containerd/find-origin.ts';
import { readChainIds } from '../containerd/image.ts';
import { unpackOnto } from '../containerd/layer.ts';
import { programOn } from '../containerd/program.ts';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { createAlternatives } from '../snapshotter/alternatives.ts';
import { createDoor } from '../snapshotter/door.ts';
import { overlayOptions } from '../snapshotter/kernel-options.ts';
import type { Layer } from '../snapshotter/lazy.ts';
import { createLazyImages, type LazyImages, pieceOf } from '../snapshotter/lazy-images.ts';
import { openSnapshotter } from '../snapshotter/open.ts';
import { digestOf, type Origin } from '../snapshotter/origin.ts';
import { createPieces } from '../snapshotter/pieces.ts';
import type { Mount } from '../snapshotter/snapshotter.ts';
import { type SnapshotsStatus, summary } from '../snapshotter/summary.ts';
import { type Nearby, withNearby } from '../sources/nearby.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { Config } from './config.ts';
import { wrongAddress } from './config-schema.ts';
import type { ContainerImages } from './images.ts';
import { claimSocket } from './socket.ts';

/** What containerd fetches for us is held by a lease there, and gone afterwards. */
const UNPACKING_NAMESPACE = 'default';
const MOST_NAMESPACES = 256;

/** containerd's snapshots, as a part of the daemon. */
export interface Snapshots {
  /** Calls so far. */
  readonly calls: number;
  status(): Promise<SnapshotsStatus>;
  /** Digests of the images that containerd has, whether a container runs or not. */
  needed(): ReadonlySet<OciDigest>;
  close(): Promise<void>;
}

/** Opens the snapshots below `config.root` and serves them on `snapshotter.address`. */
export async function serveSnapshots(
  config: Config,
  images: ContainerImages,
  pool: ThreadPool,
  log: Log,
): Promise<Snapshots> {
  const content = createContentStore(config.containerd.address);
  const containerd = connectContainerd(config.containerd.address);
  const unpack = (piece: Layer, mounts: Mount[]) => {
    const { image, layer } = pieceOf(piece);
    return unpackOnto(containerd, UNPACKING_NAMESPACE, images.repository(image), layer, mounts, ending.signal);
  };
  const ending = new AbortController();
  /** Where containerd has the manifest of an image, and more of it where it has unpacked it: those that were last asked for. */
  const namespaces = new Map<Origin, string>();
  const requested = (origin: Origin, name: string): void => {
    namespaces.delete(origin);
    namespaces.set(origin, namespaceOf(name));
    for (const [oldest] of namespaces) if (namespaces.size > MOST_NAMESPACES) namespaces.delete(oldest);
  };
  const nearby = (origin: Origin): Nearby => {
    const namespace = namespaces.get(origin);
    return async (digest, signal) => (namespace === undefined ? undefined : content.read(namespace, digest, signal));
  };
  const alternative = config.snapshotter.alternatives ? images.alternative : async () => undefined;
  let lazy: LazyImages | undefined;
  const snapshotter = await openSnapshotter(config.root, pool, log, (directories) => {
    lazy = createLazyImages({
      ...images,
      directories,
      mount: (origin, directory, signal) => images.mount(origin, directory, nearby(origin), signal),
      async find(layer, signal) {
        const origin = await findOrigin(content, layer, signal);
        requested(origin, layer.name);
        return origin;
      },
      began: (directory, key) =>
        images.foresee(directory, (signal) => programOn(containerd, namespaceOf(key), clientKeyOf(key), signal)),
      requested,
      chains: (origin, signal) =>
        readChainIds(withNearby(images.repository(origin), nearby(origin), digestOf(origin)), signal),
      alternatives: createAlternatives(alternative, log),
      pieces: createPieces({ directories, overlayOptions: overlayOptions(), unpack, log }),
      log,
    });
    return lazy;
  });
  const door = createDoor(snapshotter, snapshotter.used || existsSync(config.containerd.address), log);
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
    needed: () => lazy!.needed(),
    async close() {
      server.close();
      ending.abort();
      await door.close();
      await snapshotter.close();
      content.close();
      containerd.close();
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
