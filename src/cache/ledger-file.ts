import { DIGEST_SIZE, digestOf } from '../codec/digest.ts';
import { corrupt } from '../errors.ts';
import type { DigestAlgorithm } from '../image/image.ts';
import { checkTables, type Ledger } from './ledger.ts';

/**
 * The `chunks` file of an entry, little endian:
 *
 *   0    8   magic
 *   8    4   version
 *   12   4   digest algorithm: 0 sha256, 1 blake3
 *   16   8   inode number
 *   24   8   size of the blob, bytes
 *   32   4   chunks: c
 *   36   4   frames: f
 *   40   64  blob id, hex
 *   104  64  digest of the stored object, hex
 *   168  4   variant: N of the key `<id>~N`, 1 for `<id>`
 *   172  4   zero
 *   176      frame offsets f × f64, chunk offsets c × f64, frame sizes, decoded sizes f × u32, chunk sizes, frames, frame
 *            offsets c × u32, chunk digests c × 32, codecs f × u8
 *   end  32  BLAKE3 of all before (SHA-256 would hold the thread five times as long)
 */
const MAGIC = 'NYMPHLGR';
const VERSION = 1;
const HEADER_SIZE = 176;
const ALGORITHMS: readonly DigestAlgorithm[] = ['sha256', 'blake3'];
const STRUCTURE = 'chunk ledger';

export interface StoredLedger {
  ino: number;
  variant: number;
  ledger: Ledger;
}

const sizeOf = (chunks: number, frames: number) =>
  HEADER_SIZE + frames * (8 + 4 + 4 + 1) + chunks * (8 + 4 + 4 + 4 + DIGEST_SIZE) + DIGEST_SIZE;

type Tables = Pick<Ledger, 'chunks' | 'frames'>;

/** Views of the arrays in file order: the widest first, so that each is aligned. */
function tablesIn(buffer: ArrayBuffer, chunks: number, frames: number): Tables {
  let at = HEADER_SIZE;
  const take = <T>(make: new (buffer: ArrayBuffer, at: number, length: number) => T, length: number, width: number) => {
    const view = new make(buffer, at, length);
    at += length * width;
    return view;
  };
  const frameOffset = take(Float64Array, frames, 8);
  const chunkOffset = take(Float64Array, chunks, 8);
  return {
    frames: {
      count: frames,
      offset: frameOffset,
      size: take(Uint32Array, frames, 4),
      decodedSize: take(Uint32Array, frames, 4),
      codec: new Uint8Array(buffer, sizeOf(chunks, frames) - DIGEST_SIZE - frames, frames),
    },
    chunks: {
      count: chunks,
      offset: chunkOffset,
      size: take(Uint32Array, chunks, 4),
      frame: take(Uint32Array, chunks, 4),
      frameOffset: take(Uint32Array, chunks, 4),
      digest: take(Uint8Array, chunks * DIGEST_SIZE, 1),
    },
  };
}

export function encodeLedger({ ino, variant, ledger }: StoredLedger): Uint8Array {
  const { chunks, frames } = ledger;
  const bytes = Buffer.from(new ArrayBuffer(sizeOf(chunks.count, frames.count)));
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(VERSION, 8);
  bytes.writeUInt32LE(ALGORITHMS.indexOf(ledger.digestAlgorithm), 12);
  bytes.writeBigUInt64LE(BigInt(ino), 16);
  bytes.writeBigUInt64LE(BigInt(ledger.size), 24);
  bytes.writeUInt32LE(chunks.count, 32);
  bytes.writeUInt32LE(frames.count, 36);
  bytes.write(ledger.id, 40, 64, 'latin1');
  bytes.write(ledger.digest.slice('sha256:'.length), 104, 64, 'latin1');
  bytes.writeUInt32LE(variant, 168);
  const tables = tablesIn(bytes.buffer as ArrayBuffer, chunks.count, frames.count);
  tables.frames.offset.set(frames.offset.subarray(0, frames.count));
  tables.frames.size.set(frames.size.subarray(0, frames.count));
  tables.frames.decodedSize.set(frames.decodedSize.subarray(0, frames.count));
  tables.frames.codec.set(frames.codec.subarray(0, frames.count));
  tables.chunks.offset.set(chunks.offset.subarray(0, chunks.count));
  tables.chunks.size.set(chunks.size.subarray(0, chunks.count));
  tables.chunks.frame.set(chunks.frame.subarray(0, chunks.count));
  tables.chunks.frameOffset.set(chunks.frameOffset.subarray(0, chunks.count));
  tables.chunks.digest.set(chunks.digest.subarray(0, chunks.count * DIGEST_SIZE));
  bytes.set(digestOf('blake3', bytes.subarray(0, -DIGEST_SIZE)), bytes.length - DIGEST_SIZE);
  return bytes;
}

/**
 * @param bytes the whole file; the tables of the result are views of it, or of a copy if it is not aligned
 * @throws NymphError `corrupt` if any byte is wrong
 */
export function decodeLedger(bytes: Uint8Array): StoredLedger {
  if (bytes.length < HEADER_SIZE + DIGEST_SIZE) throw corrupt(STRUCTURE, 'file', bytes.length, 'too short');
  const aligned = bytes.byteOffset === 0 && bytes.buffer instanceof ArrayBuffer ? bytes : Uint8Array.from(bytes);
  const view = Buffer.from(aligned.buffer as ArrayBuffer, 0, aligned.length);
  const digest = digestOf('blake3', view.subarray(0, -DIGEST_SIZE));
  if (view.compare(digest, 0, DIGEST_SIZE, view.length - DIGEST_SIZE) !== 0)
    throw corrupt(STRUCTURE, 'digest', view.length - DIGEST_SIZE, 'the file was damaged');
  if (view.toString('latin1', 0, 8) !== MAGIC) throw corrupt(STRUCTURE, 'magic', 0, 'not a ledger');
  const version = view.readUInt32LE(8);
  if (version !== VERSION) throw corrupt(STRUCTURE, 'version', 8, `${version} is not known`);
  const chunks = view.readUInt32LE(32);
  const frames = view.readUInt32LE(36);
  if (view.length !== sizeOf(chunks, frames)) throw corrupt(STRUCTURE, 'counts', 32, 'contradict the size of the file');
  const digestAlgorithm = ALGORITHMS[view.readUInt32LE(12)];
  if (!digestAlgorithm) throw corrupt(STRUCTURE, 'digest algorithm', 12, 'is not known');
  const ledger: Ledger = {
    id: view.toString('latin1', 40, 104),
    digest: `sha256:${view.toString('latin1', 104, 168)}`,
    digestAlgorithm,
    size: Number(view.readBigUInt64LE(24)),
    ...tablesIn(aligned.buffer as ArrayBuffer, chunks, frames),
  };
  checkTables(ledger);
  return { ino: Number(view.readBigUInt64LE(16)), variant: view.readUInt32LE(168), ledger };
}
