import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { BlobRange } from '../image/image.ts';
import { parseTrace } from '../image/trace.ts';
import { type AttachedImage, reattachMounted } from '../mount/attach.ts';
import type { Mounts } from '../mount/mounts.ts';
import type { ImageOpener } from '../mount/open.ts';
import { FILES_RANGES } from '../mount/places.ts';
import { fetchRanges } from '../mount/pull.ts';
import type { ServedBlobs } from '../mount/served.ts';
import type { PrefetchRequest, PrefetchResult, Progress } from './api.ts';
import { countsOf } from './live.ts';
import type { Opening } from './opening.ts';

export interface PrefetchingParts {
  cache: Cache;
  blobs: ServedBlobs;
  mounts: Mounts;
  opener: ImageOpener;
  context: FetchContext;
  open: Opening;
}

export type Prefetching = (
  request: PrefetchRequest,
  progress: (p: Progress) => void,
  signal: AbortSignal,
) => Promise<PrefetchResult>;

/** Files that are named of those that an image does not have. */
const MOST_MISSING = 100;

/** Fetches what a trace or a list of files names, of an image that is mounted or is opened for it. */
export function createPrefetching(parts: PrefetchingParts): Prefetching {
  const { cache, blobs, mounts, opener, context, open } = parts;

  /** The mounted image that is meant, if there is one: its tag may mean another one by now. */
  async function mounted(target: string): Promise<StoredImage | undefined> {
    if (target.startsWith('/')) {
      const found = await mounts.find(target);
      if (found !== undefined) return found.image.stored;
      throw new NymphError('not-found', `nothing of ours is mounted on ${target}`, {
        hint: '`nymph ls` lists the mounts.',
      });
    }
    const isDigest = target.startsWith('sha256:');
    const name = isDigest ? target : opener.canonical(target);
    const list = mounts.list().map(({ image }) => image.stored);
    const here = isDigest ? [...list, ...cache.images()] : list;
    const found = here.find(({ digest, reference }) => digest === name || reference === name);
    if (found === undefined && isDigest)
      throw new NymphError('not-found', `no image ${target} is here`, { hint: 'Name it by its reference.' });
    return found;
  }

  async function attached(
    { target, platform }: PrefetchRequest,
    progress: (p: Progress) => void,
    signal: AbortSignal,
  ): Promise<AttachedImage> {
    const stored = await mounted(target);
    if (stored === undefined) return (await open(target, platform, progress, signal)).image;
    // Held for itself: the mount may go meanwhile.
    return reattachMounted(stored, cache, blobs, opener.sources(stored.reference));
  }

  async function rangesOf(
    image: AttachedImage,
    { digest, trace, files }: PrefetchRequest,
  ): Promise<{ ranges: BlobRange[]; missing?: string[] }> {
    const { reference } = image.stored;
    // Places in the blobs of one image mean nothing in another; the names of its files may.
    if (trace !== undefined && (digest === undefined || digest === image.stored.digest)) {
      const sizes = image.blobs.map(({ cached }) => cached.size);
      const ranges = parseTrace(trace, sizes);
      if (ranges.length > 0) return { ranges };
    }
    if (files !== undefined) return context.pool.run(FILES_RANGES, { bootstrap: image.bootstrap, files });
    throw new NymphError('usage', `the trace names nothing of ${reference}`, {
      hint: 'It is of another image. With the names of its files (`nymph trace --json`) it can be used all the same.',
    });
  }

  return async (request, progress, signal) => {
    const begun = performance.now();
    const image = await attached(request, progress, signal);
    try {
      const { reference, digest } = image.stored;
      const keys = image.blobs.map(({ cached }) => cached.key);
      const came = () =>
        Object.values(countsOf(keys, context.statistics.blobs).bytes).reduce((sum, bytes) => sum + bytes, 0);
      const before = came();
      const { ranges, missing } = await rangesOf(image, request);
      const total = ranges.reduce((sum, { length }) => sum + length, 0);
      const report = (done: number) => progress({ stage: 'fetching', done, total });
      report(0);
      await fetchRanges(image, ranges, signal, report);
      return {
        ...{ reference, digest, bytes: total, fetched: came() - before },
        ...(missing && { files: request.files!.length - missing.length }),
        ...(missing && missing.length > 0 && { missing: missing.slice(0, MOST_MISSING) }),
        milliseconds: Math.round(performance.now() - begun),
      };
    } finally {
      image.release().catch((error) => context.log('error', 'cannot give blobs back', { error }));
    }
  };
}
