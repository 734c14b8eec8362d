/** The store job: decode, verify, write, then set the bits. */
import { readSync, writeSync, writevSync } from 'node:fs';
import { attachReadyMap, type ReadyMap, setReady } from '../cache/ready-map.ts';
import { decrypt } from '../codec/decrypt.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import { decodeFrame } from '../codec/frame.ts';
import { inflateFrom } from '../codec/inflate.ts';
import { NymphError } from '../errors.ts';
import { startsProgram } from '../formats/elf.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';
import type { FileRange, FrameContext, FrameResult, StoreFrame, StoreJob } from './store-types.ts';

/** A chunk that is what its digest says. */
interface Piece {
  offset: number;
  bytes: Uint8Array;
}

interface Checked {
  right: Piece[];
  /** Why the frame cannot be decoded, or one of its chunks is wrong. */
  reason?: string;
}

export function run(job: StoreJob): JobResult<FrameResult[]> {
  const ready = attachReadyMap(job.ready);
  const stored = job.stored instanceof ArrayBuffer ? new Uint8Array(job.stored) : readStored(job.stored);
  if (typeof stored === 'string') return { output: job.frames.map(() => ({ type: 'bad', reason: stored })) };
  let first = 0;
  const checked = job.frames.map((frame) => {
    const result = check(job, stored, frame, first);
    first += frame.chunks.length;
    return result;
  });
  const written = writeTogether(
    job.fd,
    checked.flatMap(({ right }) => right),
  );
  const output = checked.map((frame) => settle(job.fd, frame, ready, written));
  const loose = output.flatMap((result) => (result.type === 'loose' ? result.chunks : []));
  return { output, transfer: loose.map((chunk) => chunk.buffer) };
}

/** For what is read from files: it is copied on, and fresh memory costs as much as the copy. */
let scratch = new Uint8Array(0);

/** @returns the bytes, good until the next call, or why they cannot be had: it is the file of somebody else */
function readStored({ fd, offset, length }: FileRange): Uint8Array | string {
  if (scratch.length < length) scratch = new Uint8Array(length);
  try {
    for (let done = 0; done < length; ) {
      const read = readSync(fd, scratch, done, length - done, offset + done);
      if (read === 0) return `its file ends at ${offset + done}`;
      done += read;
    }
  } catch (error) {
    return (error as Error).message;
  }
  return scratch.subarray(0, length);
}

/** @param first position of the frame's first chunk in the job's digests. */
function check(job: StoreJob, stored: Uint8Array, frame: StoreFrame, first: number): Checked {
  let decoded: Uint8Array;
  try {
    decoded = decode(job, stored.subarray(frame.at, frame.at + frame.size), frame);
  } catch (error) {
    // Our own disk is not the source's fault.
    if (error instanceof NymphError && error.code === 'cache') throw error;
    return { right: [], reason: (error as Error).message };
  }
  // Each chunk counts for itself: what another image says of the rest of the frame must not keep it from its readers.
  const checked: Checked = { right: [] };
  for (const [i, chunk] of frame.chunks.entries()) {
    const bytes = decoded.subarray(chunk.frameOffset, chunk.frameOffset + chunk.size);
    if (bytes.length !== chunk.size) checked.reason ??= `chunk at ${chunk.offset} lies outside its frame`;
    else if (isRight(job, first + i, bytes)) checked.right.push({ offset: chunk.offset, bytes });
    else checked.reason ??= `chunk at ${chunk.offset} has another ${job.digestAlgorithm} digest`;
  }
  return checked;
}

/** @param index of the chunk among the job's digests */
function isRight({ digestAlgorithm, digests }: StoreJob, index: number, bytes: Uint8Array): boolean {
  return digestAlgorithm === 'none' || digestEquals(digests, index, digestOf(digestAlgorithm, bytes));
}

function decode({ cipher, dictionaries }: StoreJob, encoded: Uint8Array, frame: StoreFrame): Uint8Array {
  const { codec, decodedSize, context } = frame;
  if (context) {
    const { bits, value } = context;
    return inflateFrom({ bits, value, dictionary: readDictionary(dictionaries, context) }, encoded, decodedSize);
  }
  const plain = cipher ? decrypt(cipher, encoded, codec === 'none' ? decodedSize : undefined) : encoded;
  return decodeFrame(codec, plain, decodedSize);
}

/** @throws NymphError `cache` if the disk has it no more */
function readDictionary(file: number | undefined, context: FrameContext): Uint8Array {
  const { dictionaryOffset, dictionarySize, dictionaryDigest } = context;
  const bytes = new Uint8Array(dictionarySize);
  if (dictionarySize === 0) return bytes;
  let found = 0;
  let why = 'damaged';
  try {
    found = file === undefined ? 0 : readSync(file, bytes, 0, dictionarySize, dictionaryOffset);
  } catch (error) {
    why = (error as Error).message;
  }
  if (found === dictionarySize && digestEquals(dictionaryDigest, 0, digestOf('blake3', bytes))) return bytes;
  throw new NymphError('cache', `a dictionary of a gzip layer is gone from the cache: ${why}`, {
    hint: 'Unmount the image and mount it again: it is read anew then.',
  });
}

/** Writes what is not written yet, then sets the bits. */
function settle(fd: number, { right, reason }: Checked, ready: ReadyMap, written: boolean): FrameResult {
  try {
    if (!written) for (const { bytes, offset } of right) write(fd, bytes, offset);
  } catch (error) {
    if (reason !== undefined) return { type: 'bad', reason };
    return {
      type: 'loose',
      reason: (error as Error).message,
      chunks: right.map(({ bytes }) => new Uint8Array(bytes)),
    };
  }
  for (const { offset, bytes } of right) setReady(ready, offset, bytes.length);
  if (reason !== undefined) return { type: 'bad', reason };
  return { type: 'stored', programs: right.filter(({ bytes }) => startsProgram(bytes)).map(({ offset }) => offset) };
}

const PADDING = new Uint8Array(BLOCK_SIZE);

/**
 * Writes neighbours with one call: small files lie side by side, each padded to a block, and a call for each costs as
 * much as decoding it. @returns false if something was not written; then nothing is known of the rest.
 */
function writeTogether(fd: number, pieces: Piece[]): boolean {
  try {
    for (let first = 0; first < pieces.length; ) {
      const buffers: Uint8Array[] = [];
      const start = pieces[first].offset;
      let end = start;
      for (; first < pieces.length; first++) {
        const { offset, bytes } = pieces[first];
        if (offset < end || offset - end >= BLOCK_SIZE) break;
        if (offset > end) buffers.push(PADDING.subarray(0, offset - end));
        buffers.push(bytes);
        end = offset + bytes.length;
      }
      if (writevSync(fd, buffers, start) !== end - start) return false;
    }
    return true;
  } catch {
    return false;
  }
}

function write(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
