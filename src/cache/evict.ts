import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { BlobStore } from './blob-store.ts';
import type { PruneResult } from './cache.ts';
import type { Catalogue } from './catalogue.ts';
import type { EntryRecord } from './entry.ts';
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

export interface EvictorParts {
  blobs: BlobStore;
  images: ImageStore;
  catalogue: Catalogue;
  bytesInUse: () => number;
  quota: number | undefined;
  /** Part of the quota. */
  lowWater?: number;
  /** Digests of images that others count on though they are not mounted. */
  needed?: () => ReadonlySet<OciDigest>;
  log: Log;
}

export interface Evictor {
  readonly evicted: Readonly<Evictions>;
  prune(target: number, force?: boolean): Promise<PruneResult>;
  /** Looks at the quota; evicts in the background if more is in use. Never throws. */
  look(): void;
  /** Resolves when nothing is being evicted. */
  idle(): Promise<void>;
}

/**
 * How far an eviction may go. `asked`: what is pinned or needed stays. `quota`: the quota is a promise, so what is needed
 * goes last, and its image stays. `forced`: all that nobody has open.
 */
type Reach = 'asked' | 'quota' | 'forced';

export function createEvictor(parts: EvictorParts): Evictor {
  const { blobs, images, catalogue, bytesInUse, quota, lowWater = LOW_WATER, log } = parts;
  const needed = parts.needed ?? (() => new Set<OciDigest>());
  let queue: Promise<unknown> = Promise.resolve();
  let evicting = false;
  let lookAgain = false;
  let pausedUntil = 0;
  let warned = false;
  const evicted: Evictions = { blobs: 0, images: 0, bytes: 0 };

  async function pruneNow(target: number, reach: Reach): Promise<PruneResult> {
    const result: PruneResult = { freed: 0, blobs: [], images: [] };
    const keep = reach === 'forced' ? new Set<OciDigest>() : needed();
    for (const record of candidates(reach, keep)) {
      if (bytesInUse() <= target) break;
      const { bytes } = record;
      if (!(await blobs.evict(record.key))) continue;
      result.freed += bytes;
      result.blobs.push(record.key);
    }
    for (const image of catalogue.images()) {
      if (image.blobs.some((blob) => blobs.has(blob.key))) continue;
      if (keep.has(image.digest) || (image.pinned && reach !== 'forced')) continue;
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

  /** A daemon that starts again opens the blobs of its mounts one after another: those that are not open yet are in use. */
  function mountedBlobs(): ReadonlySet<string> {
    const digests = new Set(catalogue.mounts().map(({ digest }) => digest));
    return new Set([...digests].flatMap((digest) => catalogue.image(digest)?.blobs.map(({ key }) => key) ?? []));
  }

  /** What may be evicted, in this order. */
  function candidates(reach: Reach, keep: ReadonlySet<OciDigest>): EntryRecord[] {
    const pinned = reach === 'forced' ? new Set<string>() : images.pinnedBlobs();
    const mounted = mountedBlobs();
    const wanted = new Set<string>();
    if (keep.size > 0)
      for (const image of catalogue.images())
        if (keep.has(image.digest)) for (const { key } of image.blobs) wanted.add(key);
    const rank = ({ key }: EntryRecord) => Number(wanted.has(key));
    return [...blobs.records()]
      .filter(
        (record) =>
          !record.open &&
          !mounted.has(record.key) &&
          !pinned.has(record.key) &&
          (reach !== 'asked' || !wanted.has(record.key)),
      )
      .sort((a, b) => rank(a) - rank(b) || a.lastUsed - b.lastUsed);
  }

  async function removeUnused(digest: OciDigest): Promise<boolean> {
    try {
      return await images.remove(digest);
    } catch (error) {
      if (error instanceof NymphError && error.code === 'busy') return false;
      throw error;
    }
  }

  function prune(target: number, reach: Reach): Promise<PruneResult> {
    const result = queue.then(() => pruneNow(target, reach));
    queue = result.catch(() => {}); // the caller gets the error; the next in the queue goes on
    return result;
  }

  function settle(quota: number): void {
    const bytes = bytesInUse();
    if (bytes <= quota) {
      warned = false;
      return;
    }
    if (!warned) log('warn', 'more than the quota is in use, and all of it is open or pinned', { bytes, quota });
    warned = true;
  }

  function nothingToEvict(): boolean {
    const kept = new Set([...images.pinnedBlobs(), ...mountedBlobs()]);
    return [...blobs.records()].every((record) => record.open || kept.has(record.key));
  }

  return {
    evicted,
    prune: (target, force) => prune(target, force ? 'forced' : 'asked'),
    look,
    async idle() {
      await queue;
    },
  };

  function look(): void {
    // What is released meanwhile may be what can go.
    if (evicting) lookAgain = true;
    if (quota === undefined || evicting || bytesInUse() <= quota || performance.now() < pausedUntil) return;
    // All is in use: the next look that finds something else is that of a release, or after a pin is gone.
    if (warned && nothingToEvict()) return;
    evicting = true;
    lookAgain = false;
    prune(Math.floor(quota * lowWater), 'quota')
      .then(
        (result) => {
          if (result.blobs.length > 0) log('info', 'evicted to stay within the quota', { ...result });
          settle(quota);
        },
        (error) => {
          pausedUntil = performance.now() + PAUSE;
          log('error', 'eviction failed', { error: messageOf(error) });
        },
      )
      .finally(() => {
        evicting = false;
        if (lookAgain) look();
      });
  }
}
