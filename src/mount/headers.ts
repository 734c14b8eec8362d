import { setImmediate as othersTurn } from 'node:timers/promises';
import { NymphError } from '../errors.ts';
import { headerRanges } from '../formats/weights/header.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/**
 * What is fetched of a model before anybody reads it: small files (configuration, tokenizer), then indexes and what else
 * is read whole before the first tensor, then the headers of weights.
 */

/** Files up to this are worth to be there before anybody asks. */
export const SMALL = 4 << 20;
/** All small files together: a repository of data may have tens of thousands. */
const SMALL_TOTAL = 256 << 20;
/** Tokenizers, indexes of shards, and ONNX graphs, whose weights are beside them where there are many. */
const INDEX = /(?:^|\/)(?:tokenizer[^/]*|vocab[^/]*|merges[^/]*|[^/]*\.index\.json|[^/]*\.onnx)$/;
/** Larger ones are no index. */
export const MOST_INDEX = 64 << 20;
const HEAD = 1 << 20;
/** Files that are sent for at once: readers stand in the same line, and a repository may have many thousands of small ones. */
const AT_ONCE = 32;

/** A file of a model, and where it is in its blob: from 0 on, unless the blob is a tar. */
export interface ModelFile {
  readonly path: string;
  readonly blob: ServedBlob;
  readonly start: number;
  readonly size: number;
}

/** @param strict large files cannot be looked into before they are complete */
export async function fetchHeaders(
  image: AttachedImage,
  blobs: ServedBlobs,
  strict: boolean,
  signal: AbortSignal,
): Promise<void> {
  const files = filesOf(image);
  const whole = ({ blob, start, size }: ModelFile) => blob.fetcher.gather([{ offset: start, length: size }], signal);
  await together(smallOnes(files), signal, whole);
  const large = files.filter(({ size }) => size > SMALL);
  await together(large.filter(isIndex), signal, whole);
  await together(
    large.filter((file) => !isIndex(file)),
    signal,
    (file) => fetchHeader(file, blobs, strict, signal),
  );
}

export function filesOf(image: AttachedImage): ModelFile[] {
  return image.blobs.flatMap((blob, i): ModelFile[] => {
    const { path = '', files } = image.stored.blobs[i];
    if (files === undefined) return [{ path, blob, start: 0, size: blob.cached.size }];
    return files.map(({ path: name, offset, size }) => ({ path: name, blob, start: offset, size }));
  });
}

function isIndex({ path, size }: ModelFile): boolean {
  return size <= MOST_INDEX && INDEX.test(path);
}

/** The smallest first, as far as they go. */
function smallOnes(files: readonly ModelFile[]): ModelFile[] {
  const small = files.filter(({ size }) => size <= SMALL);
  small.sort((a, b) => a.size - b.size);
  let left = SMALL_TOTAL;
  return small.filter(({ size }) => {
    left -= size;
    return left >= 0;
  });
}

async function fetchHeader(file: ModelFile, blobs: ServedBlobs, strict: boolean, signal: AbortSignal): Promise<void> {
  const { path, blob, start, size } = file;
  await blob.fetcher.gather([{ offset: start, length: Math.min(HEAD, size) }], signal);
  if (strict) return;
  const read = async (offset: number, length: number) => {
    const parts = await blobs.read(blob, start + offset, length, signal);
    // What is here is read at once, and a header is long.
    await othersTurn();
    return parts.length === 1 ? parts[0] : Buffer.concat(parts);
  };
  try {
    const ranges = await headerRanges(path, size, read);
    await blob.fetcher.gather(
      ranges.map(({ offset, length }) => ({ offset: start + offset, length })),
      signal,
    );
  } catch (error) {
    // Not all that is called so is what it seems, and whoever reads it will tell.
    if (!(error instanceof NymphError && error.code === 'corrupt' && blob.cached.standing !== 'wrong')) throw error;
  }
}

/** Does all, some at a time, up to the end of `signal`; what fails is said once all others are done. */
async function together(
  files: readonly ModelFile[],
  signal: AbortSignal,
  work: (file: ModelFile) => Promise<void>,
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
