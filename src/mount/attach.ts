import type { Cache, StoredImage } from '../cache/cache.ts';
import { coveredBlocks } from '../cache/readiness.ts';
import { countReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import { blobTraits, guaranteeOf } from '../image/image.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { checkBootstrap } from './bootstrap.ts';
import type { OpenedImage, OpenSource } from './open.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';
import { subsetDigest } from './subset.ts';

/** An image whose blobs are open: what a mount, a pull and a verification hold while they last. */
export interface AttachedImage {
  readonly stored: StoredImage;
  /** In the order of the device table. */
  readonly blobs: ServedBlob[];
  readonly bootstrap: string;
  /** Ends background work for the image: when its mount goes, and when the blobs are given back. */
  readonly ending: AbortController;
  /** Gives the blobs back. */
  release(): Promise<void>;
  /** Is called, and waited for, before the blobs are given back. */
  onRelease(callback: () => void | Promise<void>): void;
}

/**
 * Opens the cache entries of an image that was just read, keeps its bootstrap, and serves its blobs.
 * @param strict files without digests of chunks are read only after the whole is found right
 */
export async function attach(
  opened: OpenedImage,
  cache: Cache,
  served: ServedBlobs,
  strict = false,
): Promise<AttachedImage> {
  const { image } = opened;
  const blobs = await serveAll(image.blobs, served, async (blob, i) => {
    const data = blob.unpacked === undefined ? undefined : opened.data?.get(blob.digest);
    return served.serve(await cache.open(blob, data), opened.source(blob), strict, opened.pieces?.[i]);
  });
  try {
    const stored: StoredImage = {
      digest: subsetDigest(opened.manifest.descriptor.digest, opened.subset),
      ...(opened.subset && { subset: opened.subset }),
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
        traits: blobTraits(blob),
        guarantee: guaranteeOf(blob),
        ...(blob.location !== undefined && { location: blob.location }),
        ...(blob.unpacked !== undefined && { unpacked: blob.unpacked }),
        ...(opened.paths && { path: opened.paths[i] }),
        ...(opened.extents?.[i] && { files: opened.extents[i] }),
        ...(opened.indexes?.[i] !== undefined && { index: opened.indexes[i] }),
        ...(opened.pieces?.[i] && { pieces: opened.pieces[i] }),
      })),
      prefetch: image.prefetch === 'all' ? 'all' : [...image.prefetch],
      verifiable: image.verifiable,
      bootstrapDigest: opened.bootstrapDigest,
    };
    return attached(stored, blobs, await cache.putImage(stored, opened.bootstrap), served);
  } catch (error) {
    await releaseAll(blobs, served);
    throw error;
  }
}

/**
 * Opens an image that the catalogue knows, to mount it, without asking anybody: a second mount, a daemon that starts
 * again. Its bootstrap is checked first: the disk may have damaged it since it was verified.
 * @throws NymphError `corrupt` if it is, `cache` if a blob is gone
 */
export async function reattach(
  stored: StoredImage,
  cache: Cache,
  served: ServedBlobs,
  source: OpenSource,
  pool: ThreadPool,
  strict = false,
): Promise<AttachedImage> {
  await checkBootstrap(stored, cache, pool);
  return reattachMounted(stored, cache, served, source, strict);
}

/** The same for an image that the kernel has mounted already, which needs its blobs whatever became of the bootstrap. */
export async function reattachMounted(
  stored: StoredImage,
  cache: Cache,
  served: ServedBlobs,
  source: OpenSource,
  strict = false,
): Promise<AttachedImage> {
  const blobs = await serveAll(stored.blobs, served, async (blob) => {
    const cached = await cache.reopen(blob.key);
    if (cached === undefined)
      throw new NymphError('cache', `blob ${blob.key} of ${stored.reference} is gone from the cache`);
    return served.serve(cached, source(blob), strict, blob.pieces);
  });
  return attached(stored, blobs, cache.bootstrapPath(stored.digest), served);
}

/** Blobs that are opened at once: new entries are synced, which takes a while each, and each has files open meanwhile. */
const AT_ONCE = 64;

/** All blobs, or none. */
async function serveAll<B>(
  list: readonly B[],
  served: ServedBlobs,
  serve: (blob: B, index: number) => Promise<ServedBlob>,
): Promise<ServedBlob[]> {
  const blobs: ServedBlob[] = new Array(list.length);
  const failed: unknown[] = [];
  const left = list.entries();
  const worker = async () => {
    for (const [i, blob] of left) {
      if (failed.length > 0) return;
      try {
        blobs[i] = await serve(blob, i);
      } catch (error) {
        failed.push(error);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failed.length === 0) return blobs;
  await releaseAll(
    blobs.filter((blob) => blob !== undefined),
    served,
  );
  throw failed[0];
}

function attached(stored: StoredImage, blobs: ServedBlob[], bootstrap: string, served: ServedBlobs): AttachedImage {
  const callbacks: (() => void | Promise<void>)[] = [];
  const ending = new AbortController();
  let held = true;
  for (const [i, { index }] of stored.blobs.entries())
    if (index !== undefined) void served.confirm(blobs[i], index, ending.signal);
  return {
    stored,
    blobs,
    bootstrap,
    ending,
    async release() {
      if (!held) return;
      held = false;
      ending.abort();
      for (const callback of callbacks) await callback();
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
