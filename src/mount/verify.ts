import { clearReady, isReady } from '../cache/ready-map.ts';
import type { Progress, VerifyResult } from '../daemon/api.ts';
import type { FetchContext } from '../fetch/context.ts';
import { cancelled } from '../fetch/gate.ts';
import type { ChunkTable, DigestAlgorithm } from '../image/image.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { type AttachedImage, isComplete } from './attach.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';
import type { VerifyOutcome, VerifyRequest } from './verify-job.ts';

const VERIFY = jobBeside<VerifyRequest, VerifyOutcome>(import.meta.url, 'verify-job');
/** One job's work: some 10 ms. */
const SLICE_BYTES = 8 << 20;

/**
 * Checks every chunk of an image against its digest: what is here from the cache, the rest by fetching it (it is
 * verified on arrival), unless `cachedOnly`. Wrong chunks of the cache are fetched again at once.
 */
export async function verifyImage(
  image: AttachedImage,
  blobs: ServedBlobs,
  cachedOnly: boolean,
  context: FetchContext,
  progress: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<VerifyResult> {
  const begun = performance.now();
  const result: VerifyResult = { chunks: 0, verified: 0, absent: 0, repaired: 0, bad: [], bytes: 0, milliseconds: 0 };
  const total = image.stored.blobs.reduce((sum, blob) => sum + blob.size, 0);
  for (const blob of image.blobs) {
    const { cached } = blob;
    const { chunks, digestAlgorithm } = cached;
    if (digestAlgorithm === 'none') {
      progress({ stage: 'verifying', done: result.bytes, total });
      await verifyWhole(blob, blobs, cachedOnly, result, signal);
      continue;
    }
    result.chunks += chunks.count;
    const check = await checkBlob(
      blob,
      digestAlgorithm,
      context.pool,
      (bytes) => progress({ stage: 'verifying', done: result.bytes + bytes, total }),
      signal,
    );
    result.bytes += check.bytes;
    result.verified += check.good;
    for (const i of check.wrong) {
      context.log('error', 'a cached chunk is wrong, fetching it again', {
        blob: cached.key,
        offset: chunks.offset[i],
      });
      clearReady(cached.ready, chunks.offset[i], chunks.size[i]);
      context.changed(cached);
      if (await fetched(blob, chunks.offset[i], chunks.size[i], signal)) result.repaired++;
      else result.bad.push(`${cached.key}:${chunks.offset[i]}`);
    }
    if (cachedOnly) {
      result.absent += check.absent.length;
      continue;
    }
    progress({ stage: 'fetching', done: result.bytes, total });
    // All in few requests first; what fails there is asked for one by one, to name it.
    await fetchedAll(blob, signal);
    for (const i of check.absent) {
      result.bytes += chunks.size[i];
      // Verified on arrival.
      const here = isReady(cached.ready, chunks.offset[i], chunks.size[i]);
      if (here || (await fetched(blob, chunks.offset[i], chunks.size[i], signal))) result.verified++;
      else result.bad.push(`${cached.key}:${chunks.offset[i]}`);
    }
  }
  return { ...result, milliseconds: Math.round(performance.now() - begun) };
}

/** A file whose chunks have no digests counts as one chunk, which is here or is not. */
async function verifyWhole(
  blob: ServedBlob,
  blobs: ServedBlobs,
  cachedOnly: boolean,
  result: VerifyResult,
  signal: AbortSignal,
): Promise<void> {
  const { cached } = blob;
  result.chunks++;
  if (cached.standing !== 'wrong' && !isComplete(blob)) {
    if (cachedOnly) {
      result.absent++;
      return;
    }
    await fetchedAll(blob, signal);
  }
  if (cached.whole === undefined) {
    result.unverifiable = (result.unverifiable ?? 0) + 1;
    return;
  }
  const found = cached.standing === 'wrong' || !isComplete(blob) ? 'bad' : await blobs.recheck(blob, signal);
  result.bytes += cached.size;
  if (found === 'right') result.verified++;
  else if (found === 'repaired') result.repaired++;
  else result.bad.push(`${cached.key}:0`);
}

/** False if no source has right bytes for the range. */
async function fetched(blob: ServedBlob, offset: number, length: number, signal: AbortSignal): Promise<boolean> {
  try {
    await blob.fetcher.need(offset, length, signal);
    return true;
  } catch (error) {
    if (signal.aborted) throw error;
    return false;
  }
}

async function fetchedAll(blob: ServedBlob, signal: AbortSignal): Promise<void> {
  try {
    await blob.fetcher.fill(0, blob.cached.size, signal);
  } catch (error) {
    if (signal.aborted) throw error;
  }
}

/** Checks what is here of a blob, a slice at a time: so that it can be followed, and ended. Positions are those of the table. */
async function checkBlob(
  { cached }: ServedBlob,
  digestAlgorithm: DigestAlgorithm,
  pool: ThreadPool,
  progress: (bytes: number) => void,
  signal: AbortSignal,
): Promise<VerifyOutcome> {
  const { chunks } = cached;
  const total: VerifyOutcome = { bytes: 0, good: 0, wrong: [], absent: [] };
  for (let start = 0; start < chunks.count; ) {
    if (signal.aborted) throw cancelled();
    const end = sliceEnd(chunks, start);
    const outcome = await pool.run(
      VERIFY,
      {
        fd: cached.fd,
        ready: cached.ready.words.buffer,
        digestAlgorithm,
        offset: chunks.offset.slice(start, end),
        size: chunks.size.slice(start, end),
        digest: chunks.digest.slice(32 * start, 32 * end),
      },
      { priority: 'prefetch' },
    );
    total.bytes += outcome.bytes;
    total.good += outcome.good;
    for (const i of outcome.wrong) total.wrong.push(start + i);
    for (const i of outcome.absent) total.absent.push(start + i);
    progress(total.bytes);
    start = end;
  }
  return total;
}

function sliceEnd(chunks: ChunkTable, start: number): number {
  let bytes = 0;
  let end = start;
  while (end < chunks.count && bytes < SLICE_BYTES) bytes += chunks.size[end++];
  return end;
}
