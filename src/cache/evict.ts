import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { BlobStore } from './blob-store.ts';
import type { PruneResult } from './cache.ts';
import type { Catalogue } from './catalogue.ts';
import { type Log, messageOf } from './health.ts';
import type { ImageStore } from './image-store.ts';

/** Automatic eviction goes down to this part of the quota, so that it does not begin anew with the next chunk. */
const LOW_WATER = 0.9;
/** After an eviction that failed, ms. */
const PAUSE = 10_000;

/** What was evicted since the start, for whatever reason. */
export interface Evictions {
  blobs: number;
  images: number;
  bytes: number;
}

export interface Evictor {
  readonly evicted: Readonly<Evictions>;
  prune(target: number): Promise<PruneResult>;
  /** Looks at the quota; evicts in the background if more is in use. Never throws. */
  look(): void;
  /** Resolves when nothing is being evicted. */
  idle(): Promise<void>;
}

export function createEvictor(
  blobs: BlobStore,
  images: ImageStore,
  catalogue: Catalogue,
  bytesInUse: () => number,
  quota: number | undefined,
  log: Log,
): Evictor {
  let queue: Promise<unknown> = Promise.resolve();
  let evicting = false;
  let pausedUntil = 0;
  let warned = false;
  const evicted: Evictions = { blobs: 0, images: 0, bytes: 0 };

  async function pruneNow(target: number): Promise<PruneResult> {
    const result: PruneResult = { freed: 0, blobs: [], images: [] };
    const idle = [...blobs.records()].filter((record) => !record.open).sort((a, b) => a.lastUsed - b.lastUsed);
    for (const record of idle) {
      if (bytesInUse() <= target) break;
      const { bytes } = record;
      if (!(await blobs.evict(record.key))) continue;
      result.freed += bytes;
      result.blobs.push(record.key);
    }
    for (const image of catalogue.images()) {
      if (image.blobs.some((blob) => blobs.has(blob.key))) continue;
      const bytes = images.bytes.get(image.digest) ?? 0;
      if (!(await removeUnused(image.digest))) continue;
      result.freed += bytes;
      result.images.push(image.digest);
    }
    evicted.blobs += result.blobs.length;
    evicted.images += result.images.length;
    evicted.bytes += result.freed;
    return result;
  }

  async function removeUnused(digest: OciDigest): Promise<boolean> {
    try {
      return await images.remove(digest);
    } catch (error) {
      if (error instanceof NymphError && error.code === 'busy') return false;
      throw error;
    }
  }

  function prune(target: number): Promise<PruneResult> {
    const result = queue.then(() => pruneNow(target));
    queue = result.catch(() => {}); // the caller gets the error; the next in the queue goes on
    return result;
  }

  function settle(quota: number): void {
    const bytes = bytesInUse();
    if (bytes <= quota) {
      warned = false;
      return;
    }
    if (!warned) log('warn', 'more than the quota is in use, and all of it is open', { bytes, quota });
    warned = true;
  }

  return {
    evicted,
    prune,
    look() {
      if (quota === undefined || evicting || bytesInUse() <= quota || Date.now() < pausedUntil) return;
      // All is in use: the next look that finds something else is that of a release.
      if (warned && [...blobs.records()].every((record) => record.open)) return;
      evicting = true;
      prune(Math.floor(quota * LOW_WATER))
        .then(
          (result) => {
            if (result.blobs.length > 0) log('info', 'evicted to stay within the quota', { ...result });
            settle(quota);
          },
          (error) => {
            pausedUntil = Date.now() + PAUSE;
            log('error', 'eviction failed', { error: messageOf(error) });
          },
        )
        .finally(() => {
          evicting = false;
        });
    },
    async idle() {
      await queue;
    },
  };
}
