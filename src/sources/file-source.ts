import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { corrupt, NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import { startDigest } from './digest.ts';
import { cancelled } from './retry.ts';
import type { Source } from './source.ts';

/** Bytes that one read call asks the file system for. */
const PIECE = 512 * 1024;

/** Range reads of a regular file. @param what names it in errors: `blob sha256:… in /path` */
export function openFileSource(name: string, path: string, what: string, size: number | undefined): Source {
  return {
    name,
    ...(size === undefined ? {} : { size }),
    async read(offset, length, signal) {
      if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
        throw new NymphError('internal', `cannot read ${length} bytes at ${offset} of ${what}`);
      const { file, size: actual } = await openRegular(path, what, signal);
      if (offset + length <= actual) return pieces(file, offset, length, what, signal);
      await file.close();
      throw new NymphError(
        'source',
        `${what} has ${actual} bytes: bytes ${offset}–${offset + length - 1} are not in it`,
      );
    },
  };
}

/**
 * A whole file of at most `limit` bytes; with `expected`, exactly that size and digest.
 * @throws NymphError `not-found`, `corrupt`, `denied`, `source`, `cancelled`
 */
export async function readSmallFile(
  path: string,
  what: string,
  expected: { digest?: OciDigest; size?: number },
  limit: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  return (await readDigested(path, what, expected, limit, signal)).bytes;
}

/** {@link readSmallFile} with the digest, which is made while the file comes: no long pause for a large one. */
export async function readDigested(
  path: string,
  what: string,
  expected: { digest?: OciDigest; size?: number },
  limit: number,
  signal: AbortSignal,
): Promise<{ bytes: Uint8Array; digest: OciDigest }> {
  if (expected.size !== undefined && expected.size > limit)
    throw corrupt(what, 'size', 0, `is ${expected.size}, more than ${limit}`);
  const { file, size } = await openRegular(path, what, signal);
  const wrong =
    expected.size !== undefined && size !== expected.size
      ? new NymphError('corrupt', `${what} has ${size} bytes instead of ${expected.size}`)
      : size > limit
        ? corrupt(what, 'size', 0, `is ${size}, more than ${limit}`)
        : undefined;
  if (wrong) {
    await file.close();
    throw wrong;
  }
  const bytes = Buffer.allocUnsafeSlow(size);
  const state = startDigest();
  let at = 0;
  for await (const piece of pieces(file, 0, size, what, signal)) {
    state.update(piece);
    bytes.set(piece, at);
    at += piece.length;
  }
  const digest = state.digest();
  if (expected.digest && digest !== expected.digest)
    throw new NymphError('corrupt', `${what} does not have its digest`, { hint: 'Copy the image anew.' });
  return { bytes, digest };
}

/** The size of a regular file, bytes. */
export async function fileSize(path: string, what: string): Promise<number> {
  const { file, size } = await openRegular(path, what, new AbortController().signal);
  await file.close();
  return size;
}

async function openRegular(
  path: string,
  what: string,
  signal: AbortSignal,
): Promise<{ file: FileHandle; size: number }> {
  if (signal.aborted) throw cancelled(what);
  let file: FileHandle | undefined;
  try {
    // Without O_NONBLOCK, opening a pipe that somebody put there would wait for ever.
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const stats = await file.stat();
    if (!stats.isFile()) throw new NymphError('not-found', `${what} is not a regular file: ${path}`);
    return { file, size: stats.size };
  } catch (error) {
    await file?.close();
    throw fileError(error, what);
  }
}

function pieces(
  file: FileHandle,
  offset: number,
  length: number,
  what: string,
  signal: AbortSignal,
): AsyncIterableIterator<Uint8Array> {
  let at = offset;
  const end = offset + length;
  let closed = false;
  const close = async () => {
    if (closed) return;
    closed = true;
    signal.removeEventListener('abort', onAbort);
    await file.close();
  };
  // A close that fails after a read that went well changes nothing for the reader.
  const onAbort = () => void close().catch(() => {});
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();

  const iterator: AsyncIterableIterator<Uint8Array> = {
    [Symbol.asyncIterator]: () => iterator,
    async next() {
      if (signal.aborted) throw cancelled(what);
      if (closed || at >= end) {
        await close();
        return { done: true, value: undefined };
      }
      try {
        const buffer = Buffer.allocUnsafeSlow(Math.min(PIECE, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new NymphError('source', `${what} ends at byte ${at}, while it is read`);
        at += bytesRead;
        return { done: false, value: buffer.subarray(0, bytesRead) };
      } catch (error) {
        await close();
        throw signal.aborted ? cancelled(what) : fileError(error, what);
      }
    },
    async return() {
      await close();
      return { done: true, value: undefined };
    },
  };
  return iterator;
}

function fileError(error: unknown, what: string): NymphError {
  if (error instanceof NymphError) return error;
  const { code } = error as NodeJS.ErrnoException;
  if (code === 'ENOENT' || code === 'ENOTDIR')
    return new NymphError('not-found', `${what} does not exist`, { cause: error });
  if (code === 'EACCES' || code === 'EPERM')
    return new NymphError('denied', `${what} may not be read (${code})`, { cause: error });
  return new NymphError('source', `cannot read ${what}: ${code ?? 'failed'}`, { retryable: true, cause: error });
}
