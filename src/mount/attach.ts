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
}

/** Where the blobs of an image come from. */
export type OpenSource = (blob: { digest: OciDigest }) => Source;

/** Opens the cache entries of an image that was just read, keeps its bootstrap, and serves its blobs. */
export async function attach(opened: OpenedImage, cache: Cache, served: ServedBlobs): Promise<AttachedImage> {
  const { image } = opened;
  const blobs: ServedBlob[] = [];
  try {
    for (const blob of image.blobs) blobs.push(await served.serve(await cache.open(blob), opened.source(blob)));
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
    const bootstrap = await cache.putImage(stored, opened.bootstrap);
    return attached(stored, blobs, bootstrap, served);
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
  const blobs: ServedBlob[] = [];
  try {
    for (const blob of stored.blobs) {
      const cached = await cache.reopen(blob.key);
      if (cached === undefined)
        throw new NymphError('cache', `blob ${blob.key} of ${stored.reference} is gone from the cache`);
      blobs.push(await served.serve(cached, source(blob)));
    }
    return attached(stored, blobs, cache.bootstrapPath(stored.digest), served);
  } catch (error) {
    await releaseAll(blobs, served);
    throw error;
  }
}

function attached(stored: StoredImage, blobs: ServedBlob[], bootstrap: string, served: ServedBlobs): AttachedImage {
  let held = true;
  return {
    stored,
    blobs,
    bootstrap,
    async release() {
      if (!held) return;
      held = false;
      await releaseAll(blobs, served);
    },
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
