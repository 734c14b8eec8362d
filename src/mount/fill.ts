import { dirname } from 'node:path/posix';
import { setImmediate as othersTurn } from 'node:timers/promises';
import { isReady } from '../cache/ready-map.ts';
import type { FetchContext } from '../fetch/context.ts';
import { jobBeside } from '../threads/job.ts';
import type { AttachedImage } from './attach.ts';
import { fetchHeaders, filesOf, MOST_INDEX, type ModelFile } from './headers.ts';
import type { ServedBlobs } from './served.ts';

/**
 * Brings all of a model here in the order in which it is used: what is read before the first tensor (`headers.ts`), then
 * what readers are at, then the rest, file by file as the index of its shards has them.
 */

const INDEX = '.index.json';
const INDEX_ORDER = jobBeside<Uint8Array, string[]>(import.meta.url, 'index-order-job');
/** One step of the fill, after which it is looked where readers are: 0.13 s at 2 Gbit/s. */
const SLICE = 32 << 20;
/** Steps under way: the next one is begun before the last bytes of one are here. */
const AT_ONCE = 2;
/** A reader that was not seen for so long, ms, has gone or has what it needs. */
const READER_MS = 5_000;
/** Steps over what is here already before others have their turn: 8 GiB, 0.3 ms. */
const PASSED = 256;

interface File extends ModelFile {
  /** How far the fill has come by itself. */
  filled: number;
}

interface Step {
  file: File;
  offset: number;
  length: number;
}

/** All of it, the headers first; a file that cannot be had is said once all others are here. */
export async function fetchModel(
  image: AttachedImage,
  blobs: ServedBlobs,
  strict: boolean,
  { log, pool }: Pick<FetchContext, 'log' | 'pool'>,
  signal: AbortSignal,
): Promise<void> {
  const failed: unknown[] = [];
  await fetchHeaders(image, blobs, strict, signal).catch((error) => failed.push(error));
  const left = await ordered(image, blobs, pool, signal);
  let passed = 0;
  const worker = async () => {
    for (let step = next(left, performance.now()); step !== undefined; step = next(left, performance.now())) {
      if (signal.aborted) return;
      const { file, offset, length } = step;
      if (isReady(file.blob.cached.ready, offset, length)) {
        if (++passed % PASSED === 0) await othersTurn();
        continue;
      }
      log('debug', 'filling', { path: file.path, offset });
      await file.blob.fetcher.fill(offset, length, signal).catch((error) => {
        failed.push(error);
        drop(left, file);
      });
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  // What stands between the files of tars belongs to what is checked.
  const tars = image.blobs.filter((_, i) => image.stored.blobs[i].files !== undefined);
  for (const { fetcher, cached } of tars)
    await fetcher.fill(0, cached.size, signal).catch((error) => failed.push(error));
  if (failed.length > 0) throw failed[0];
}

/** Shards as their index names them, then all others by path. */
async function ordered(
  image: AttachedImage,
  blobs: ServedBlobs,
  pool: FetchContext['pool'],
  signal: AbortSignal,
): Promise<File[]> {
  const files = filesOf(image);
  const rank = new Map<string, number>();
  for (const { path, blob, start, size } of files) {
    if (!path.endsWith(INDEX) || size > MOST_INDEX) continue;
    const text = Buffer.concat(await blobs.read(blob, start, size, signal));
    const folder = dirname(path);
    for (const name of await pool.run(INDEX_ORDER, text, { priority: 'prefetch' }))
      rank.set(folder === '.' ? name : `${folder}/${name}`, rank.size);
  }
  const rankOf = ({ path }: ModelFile) => rank.get(path) ?? rank.size;
  const { compare } = new Intl.Collator('en', { numeric: true });
  return files.sort((a, b) => rankOf(a) - rankOf(b) || compare(a.path, b.path)).map((file) => ({ ...file, filled: 0 }));
}

/** Where a reader was last, if there is one; else where the first file goes on. What is returned may be here already. */
function next(left: File[], now: number): Step | undefined {
  const read = left
    .filter(({ blob }) => blob.seen.reader !== undefined && now - blob.seen.reader.at < READER_MS)
    .sort((a, b) => b.blob.seen.reader!.at - a.blob.seen.reader!.at);
  for (const file of read) {
    const { size } = file.blob.cached;
    const { reader } = file.blob.seen;
    // What lies behind the reader's place comes later, in order.
    if (reader!.filled < size) {
      const offset = Math.max(reader!.offset, reader!.filled);
      reader!.filled = offset + SLICE;
      if (offset < size) return { file, offset, length: Math.min(SLICE, size - offset) };
    }
  }
  // One that was found wrong has nothing to come.
  while (left.length > 0 && (left[0].filled >= left[0].size || left[0].blob.cached.standing === 'wrong')) left.shift();
  const [file] = left;
  if (file === undefined) return undefined;
  const offset = file.start + file.filled;
  const length = Math.min(SLICE, file.size - file.filled);
  file.filled += SLICE;
  return { file, offset, length };
}

function drop(left: File[], file: File): void {
  const at = left.indexOf(file);
  if (at >= 0) left.splice(at, 1);
}
