/** The read job: brings pieces of files into memory and takes their digests. */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { DIGEST_SIZE, digestOf } from '../../../codec/digest.ts';
import { NymphError } from '../../../errors.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import type { JobResult } from '../../../threads/job.ts';

/** One chunk of a file to be. Paths as Latin-1 text: a `Buffer` would travel with the pool that it is a slice of. */
export type Piece =
  | { bytes: Uint8Array }
  | { path: string; offset: number; length: number }
  | { fd: number; offset: number; length: number };

export interface ReadRequest {
  pieces: Piece[];
  digester: DigestAlgorithm;
  /** Gets the pieces, behind each other. */
  into: SharedArrayBuffer;
}

/** Digests of the pieces, 32 bytes for each. */
export type ReadOutcome = Uint8Array<ArrayBuffer>;

export function run({ pieces, digester, into: memory }: ReadRequest): JobResult<ReadOutcome> {
  const bytes = Buffer.from(memory);
  const digests = new Uint8Array(pieces.length * DIGEST_SIZE);
  let at = 0;
  for (const [i, piece] of pieces.entries()) {
    const into = bytes.subarray(at, at + lengthOf(piece));
    if ('bytes' in piece) into.set(piece.bytes);
    else if ('fd' in piece) fill(into, piece.fd, piece.offset, 'the content of a file in the archive');
    else readFile(into, piece.path, piece.offset);
    digests.set(digestOf(digester, into), i * DIGEST_SIZE);
    at += into.length;
  }
  return { output: digests };
}

export function lengthOf(piece: Piece): number {
  return 'bytes' in piece ? piece.bytes.length : piece.length;
}

function readFile(into: Buffer, latin1: string, offset: number): void {
  const path = Buffer.from(latin1, 'latin1');
  let fd: number;
  try {
    // What was a file when it was listed may be a pipe or a link by now.
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new NymphError('source', `cannot read ${path}: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
  }
  try {
    fill(into, fd, offset, path.toString());
  } finally {
    closeSync(fd);
  }
}

function fill(into: Buffer, fd: number, offset: number, name: string): void {
  for (let done = 0; done < into.length; ) {
    let count: number;
    try {
      count = readSync(fd, into, done, into.length - done, offset + done);
    } catch (error) {
      throw new NymphError('source', `cannot read ${name}: ${(error as NodeJS.ErrnoException).code}`, { cause: error });
    }
    if (count === 0) throw new NymphError('source', `${name} became shorter while it was read: too few bytes`);
    done += count;
  }
}
