import { readiness } from '../cache/readiness.ts';
import type { Progress } from '../daemon/api.ts';
import type { BlobFetcher } from '../fetch/fetcher.ts';
import type { BlobRange } from '../image/image.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlob } from './served.ts';

/** Fetches all that is missing of an image, all blobs at once. Rejects when something cannot be had, or cannot be kept. */
export async function fetchAll(
  image: AttachedImage,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<void> {
  const report = () => {
    let done = 0;
    let total = 0;
    for (const blob of image.blobs) {
      const { size, ready } = readiness(blob.cached.chunks, blob.cached.ready);
      done += ready;
      total += size;
    }
    progress({ stage: 'fetching', done, total });
  };
  report();
  const ticking = setInterval(report, 200);
  try {
    await Promise.all(image.blobs.flatMap((blob) => fillBlob(blob, signal)));
    report();
  } finally {
    clearInterval(ticking);
  }
}

/**
 * From two places at once: small files keep the processor busy and large ones the path, and they lie apart. An image of
 * 1.1 GB with 60,000 small files comes at 0.95 of the path's rate instead of 0.89.
 */
function fillBlob({ fetcher, cached }: ServedBlob, signal: AbortSignal): Promise<void>[] {
  const middle = Math.floor(cached.size / 2);
  return [fetcher.fill(0, middle, signal), fetcher.fill(middle, cached.size - middle, signal)];
}

/** Uncompressed bytes of a list that are sent for together. */
const LISTED_BYTES = 8 << 20;

/**
 * Fetches what the image's builder listed, in that order: what a start needs, known beforehand. Many of these ranges are
 * small and lie apart, so they are sent for together; one after another each would cost a round trip.
 */
export async function fetchListed(image: AttachedImage, signal: AbortSignal): Promise<void> {
  const { prefetch } = image.stored;
  // A table that lists the root says no more than the default of the converter: the whole image.
  if (prefetch !== 'all') await fetchRanges(image, prefetch, signal);
}

/** The same with another list. @param here is told of how many of its bytes have come so far */
export async function fetchRanges(
  image: AttachedImage,
  ranges: readonly BlobRange[],
  signal: AbortSignal,
  here: (bytes: number) => void = () => {},
): Promise<void> {
  for (let next = 0, done = 0; next < ranges.length; ) {
    const together: BlobRange[][] = image.blobs.map(() => []);
    for (let bytes = 0; next < ranges.length && bytes < LISTED_BYTES; next++) {
      together[ranges[next].blob].push(ranges[next]);
      bytes += ranges[next].length;
      done += ranges[next].length;
    }
    await Promise.all(image.blobs.map(({ fetcher }, i) => gatherOrFill(fetcher, together[i], signal)));
    here(done);
  }
}

/** A large file is fetched in slices: flights hold digests. */
async function gatherOrFill(fetcher: BlobFetcher, ranges: BlobRange[], signal: AbortSignal): Promise<void> {
  await fetcher.gather(
    ranges.filter(({ length }) => length <= LISTED_BYTES),
    signal,
  );
  for (const { offset, length } of ranges) if (length > LISTED_BYTES) await fetcher.fill(offset, length, signal);
}
