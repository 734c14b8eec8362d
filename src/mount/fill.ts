import { dirname } from 'node:path/posix';
import { isReady } from '../cache/ready-map.ts';
import type { FetchContext } from '../fetch/context.ts';
import { headerRanges, indexOrder } from '../formats/files/headers.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/**
 * Brings a model here in the order in which it is used: small files (configuration, tokenizer, indexes), the headers of
 * the large ones, then what readers are at, then the rest, file by file as the safetensors index has them.
 */

/** Files up to this are worth to be there before anybody asks. */
const SMALL = 4 << 20;
const HEAD = 1 << 20;
const INDEX = '.safetensors.index.json';
/** One step of the fill, after which it is looked where readers are: 0.13 s at 2 Gbit/s. */
const SLICE = 32 << 20;
/** Files that are sent for at once: readers stand in the same line, and a repository may have many thousands of small ones. */
const AT_ONCE = 32;
/** A reader that was not seen for so long, ms, has gone or has what it needs. */
const READER_MS = 5_000;

/** A file, and where it is in its blob: from 0 on, unless the blob is a tar. */
interface File {
  path: string;
  blob: ServedBlob;
  start: number;
  size: number;
  /** How far the fill has come by itself. */
  filled: number;
}

/** Small files, and the headers of large ones. @param strict large files cannot be looked into before they are complete */
export async function fetchHeaders(
  image: AttachedImage,
  blobs: ServedBlobs,
  strict: boolean,
  signal: AbortSignal,
): Promise<void> {
  const files = filesOf(image);
  await together(files.filter(isSmall), signal, ({ blob, start, size }) =>
    blob.fetcher.gather([{ offset: start, length: size }], signal),
  );
  const large = files.filter((file) => !isSmall(file));
  await together(large, signal, async ({ path, blob, start, size }) => {
    await blob.fetcher.gather([{ offset: start, length: Math.min(HEAD, size) }], signal);
    if (strict) return;
    const head = Buffer.concat(await blobs.read(blob, start, Math.min(16, size), signal));
    const ranges = headerRanges(path, head, size).map(({ offset, length }) => ({ offset: start + offset, length }));
    await blob.fetcher.gather(ranges, signal);
  });
}

/** All of it, the headers first. */
export async function fetchModel(
  image: AttachedImage,
  blobs: ServedBlobs,
  strict: boolean,
  log: FetchContext['log'],
  signal: AbortSignal,
): Promise<void> {
  await fetchHeaders(image, blobs, strict, signal);
  const files = await ordered(filesOf(image), blobs, signal);
  while (!signal.aborted) {
    const step = next(files, Date.now());
    if (step === undefined) break;
    log('debug', 'filling', { path: step.file.path, offset: step.offset });
    await step.file.blob.fetcher.fill(step.offset, step.length, signal);
  }
  // What stands between the files of tars belongs to what is checked.
  for (const blob of image.blobs) if (!signal.aborted) await blob.fetcher.fill(0, blob.cached.size, signal);
}

function filesOf(image: AttachedImage): File[] {
  return image.blobs.flatMap((blob, i): File[] => {
    const { path = '', files } = image.stored.blobs[i];
    if (files === undefined) return [{ path, blob, start: 0, size: blob.cached.size, filled: 0 }];
    return files.map(({ path: name, offset, size }) => ({ path: name, blob, start: offset, size, filled: 0 }));
  });
}

const isSmall = ({ size }: File) => size <= SMALL;

/** Does all, some at a time, up to the end of `signal`; what fails is said once all others are done. */
async function together(
  files: readonly File[],
  signal: AbortSignal,
  work: (file: File) => Promise<void>,
): Promise<void> {
  const failed: unknown[] = [];
  const left = files.values();
  const worker = async () => {
    for (const file of left) {
      if (signal.aborted) return;
      await work(file).catch((error) => failed.push(error));
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  if (failed.length > 0) throw failed[0];
}

/** Shards as their index names them, then all others by path. */
async function ordered(files: File[], blobs: ServedBlobs, signal: AbortSignal): Promise<File[]> {
  const rank = new Map<string, number>();
  for (const { path, blob, start, size } of files) {
    if (!path.endsWith(INDEX) || size > SMALL) continue;
    const text = Buffer.concat(await blobs.read(blob, start, size, signal)).toString();
    const folder = dirname(path);
    for (const name of indexOrder(text)) rank.set(folder === '.' ? name : `${folder}/${name}`, rank.size);
  }
  const rankOf = ({ path }: File) => rank.get(path) ?? rank.size;
  return [...files].sort((a, b) => rankOf(a) - rankOf(b) || (a.path < b.path ? -1 : 1));
}

/** Where a reader was last, if there is one; else the first file that is not complete. */
function next(files: readonly File[], now: number): { file: File; offset: number; length: number } | undefined {
  const missing = files.filter(
    ({ blob, start, size, filled }) => filled < size && !isReady(blob.cached.ready, start, size),
  );
  const read = missing
    .filter(({ blob }) => blob.reader !== undefined && now - blob.reader.at < READER_MS)
    .sort((a, b) => b.blob.reader!.at - a.blob.reader!.at);
  for (const file of read) {
    const { size } = file.blob.cached;
    const { reader } = file.blob;
    // What lies behind the reader's place comes later, in order.
    if (reader!.filled < size) {
      const offset = Math.max(reader!.offset, reader!.filled);
      reader!.filled = offset + SLICE;
      if (offset < size) return { file, offset, length: Math.min(SLICE, size - offset) };
    }
  }
  const [file] = missing;
  if (file === undefined) return undefined;
  const offset = file.start + file.filled;
  const length = Math.min(SLICE, file.size - file.filled);
  file.filled += SLICE;
  return { file, offset, length };
}
