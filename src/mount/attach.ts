import type { Cache, CachedBlob, StoredImage } from '../cache/cache.ts';
import { countReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { Source } from '../sources/source.ts';
import type { OpenedImage } from './open.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/** An image whose blobs are open: what a mount, a pull and a verification hold while they last. */
export interface AttachedImage {
  readonly stored: StoredImage;
  /** In the order of the device table. */
  readonly blobs: ServedBlob[];
  readonly bootstrap: string;
  /** Gives the blobs back. */
  release(): Promise<void>;
  /** Is called when the blobs are given back. */
  onRelease(callback: () => void): void;
}

/** Where the blobs of an image come from. */
export type OpenSource = (blob: { digest: OciDigest }) => Source;

/** Opens the cache entries of an image that was just read, keeps its bootstrap, and serves its blobs. */
export async function attach(opened: OpenedImage, cache: Cache, served: ServedBlobs): Promise<AttachedImage> {
  const { image } = opened;
  const blobs = await serveAll(image.blobs, served, async (blob) => {
    return served.serve(await cache.open(blob), opened.source(blob));
  });
  try {
    const stored: StoredImage = {
      digest: opened.manifest.descriptor.digest,
      reference: opened.reference,
      format: image.format,
      inodes: image.inodes,
      chunkSize: image.chunkSize,
      blobs: image.blobs.map((blob, i) => ({
        key: blobs[i].cached.key,
        id: blob.id,
        digest: blob.digest,
        size: blob.size,
        storedSize: blob.storedSize,
      })),
      prefetch: image.prefetch === 'all' ? 'all' : [...image.prefetch],
      verifiable: image.verifiable,
    };
    return attached(stored, blobs, await cache.putImage(stored, opened.bootstrap), served);
  } catch (error) {
    await releaseAll(blobs, served);
    throw error;
  }
}

/** Opens an image that the catalogue knows, without asking anybody: a daemon that starts again, a second mount. */
export async function reattach(
  stored: StoredImage,
  cache: Cache,
  served: ServedBlobs,
  source: OpenSource,
): Promise<AttachedImage> {
  const blobs = await serveAll(stored.blobs, served, async (blob) => {
    const cached = await cache.reopen(blob.key);
    if (cached === undefined)
      throw new NymphError('cache', `blob ${blob.key} of ${stored.reference} is gone from the cache`);
    return served.serve(cached, source(blob));
  });
  return attached(stored, blobs, cache.bootstrapPath(stored.digest), served);
}

/** All blobs at once, or none: new entries are synced, which takes a while each. */
async function serveAll<B>(
  list: readonly B[],
  served: ServedBlobs,
  serve: (blob: B) => Promise<ServedBlob>,
): Promise<ServedBlob[]> {
  const results = await Promise.allSettled(list.map(serve));
  const failed = results.find((result) => result.status === 'rejected');
  const blobs = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  if (failed === undefined) return blobs;
  await releaseAll(blobs, served);
  throw failed.reason;
}

function attached(stored: StoredImage, blobs: ServedBlob[], bootstrap: string, served: ServedBlobs): AttachedImage {
  const callbacks: (() => void)[] = [];
  let held = true;
  return {
    stored,
    blobs,
    bootstrap,
    async release() {
      if (!held) return;
      held = false;
      for (const callback of callbacks) callback();
      await releaseAll(blobs, served);
    },
    onRelease: (callback) => void callbacks.push(callback),
  };
}

async function releaseAll(blobs: ServedBlob[], served: ServedBlobs): Promise<void> {
  for (const blob of blobs) await served.release(blob);
}

/** True if no block of the blob is missing that a chunk covers: it can be given to the kernel as a plain file. */
export function isComplete({ cached }: ServedBlob): boolean {
  return countReady(cached.ready) >= coveredBlocks(cached.chunks);
}

/** Blocks of the blob that chunks cover; each chunk begins on a block. */
function coveredBlocks(chunks: { count: number; size: Uint32Array }): number {
  let blocks = 0;
  for (let i = 0; i < chunks.count; i++) blocks += Math.ceil(chunks.size[i] / 4096);
  return blocks;
}

/** Uncompressed bytes of chunks in all, and of those that are here. */
export function readiness(cached: CachedBlob): { size: number; ready: number } {
  let size = 0;
  for (let i = 0; i < cached.chunks.count; i++) size += cached.chunks.size[i];
  const covered = coveredBlocks(cached.chunks);
  const blocks = Math.min(countReady(cached.ready), covered);
  return { size, ready: covered === 0 ? 0 : blocks === covered ? size : Math.floor((size * blocks) / covered) };
}
