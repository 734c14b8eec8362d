import { dirname } from 'node:path/posix';
import type { FetchContext } from '../fetch/context.ts';
import { headerRanges, indexOrder } from '../formats/files/headers.ts';
import { type AttachedImage, isComplete } from './attach.ts';
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

interface File {
  path: string;
  blob: ServedBlob;
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
  await together(files.filter(isSmall), signal, ({ blob }) =>
    blob.fetcher.gather([{ offset: 0, length: blob.cached.size }], signal),
  );
  const large = files.filter((file) => !isSmall(file));
  await together(large, signal, async ({ path, blob }) => {
    const { size } = blob.cached;
    await blob.fetcher.gather([{ offset: 0, length: Math.min(HEAD, size) }], signal);
    if (strict) return;
    const head = Buffer.concat(await blobs.read(blob, 0, Math.min(16, size), signal));
    await blob.fetcher.gather(headerRanges(path, head, size), signal);
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
    if (step === undefined) return;
    log('debug', 'filling', { path: step.file.path, offset: step.offset });
    await step.file.blob.fetcher.fill(step.offset, step.length, signal);
  }
}

function filesOf(image: AttachedImage): File[] {
  return image.blobs.map((blob, i) => ({ path: image.stored.blobs[i].path ?? '', blob, filled: 0 }));
}

const isSmall = ({ blob }: File) => blob.cached.size <= SMALL;

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
  for (const { path, blob } of files) {
    if (!path.endsWith(INDEX) || blob.cached.size > SMALL) continue;
    const text = Buffer.concat(await blobs.read(blob, 0, blob.cached.size, signal)).toString();
    const folder = dirname(path);
    for (const name of indexOrder(text)) rank.set(folder === '.' ? name : `${folder}/${name}`, rank.size);
  }
  const rankOf = ({ path }: File) => rank.get(path) ?? rank.size;
  return [...files].sort((a, b) => rankOf(a) - rankOf(b) || (a.path < b.path ? -1 : 1));
}

/** Where a reader was last, if there is one; else the first file that is not complete. */
function next(files: readonly File[], now: number): { file: File; offset: number; length: number } | undefined {
  const missing = files.filter(({ blob, filled }) => filled < blob.cached.size && !isComplete(blob));
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
  const offset = file.filled;
  file.filled += SLICE;
  return { file, offset, length: Math.min(SLICE, file.blob.cached.size - offset) };
}
