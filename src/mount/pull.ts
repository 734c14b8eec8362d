import { readiness } from '../cache/readiness.ts';
import type { Progress } from '../daemon/api.ts';
import type { AttachedImage } from './attach.ts';

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
    await Promise.all(image.blobs.map((blob) => blob.fetcher.fill(0, blob.cached.size, signal)));
    report();
  } finally {
    clearInterval(ticking);
  }
}

/** Fetches in the background what the image's builder listed, in that order. */
export async function fetchListed(image: AttachedImage, signal: AbortSignal): Promise<void> {
  // A table that lists the root says no more than the default of the converter: the whole image.
  if (image.stored.prefetch === 'all') return;
  for (const range of image.stored.prefetch) {
    await image.blobs[range.blob].fetcher.fill(range.offset, range.length, signal);
  }
}
