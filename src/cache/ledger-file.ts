import { DIGEST_SIZE, digestOf } from '../codec/digest.ts';
import { corrupt } from '../errors.ts';
import type { ChunkDigest, WholeDigest } from '../image/image.ts';
import { BLOB_ID } from './layout.ts';
import { checkTables, digestSizeOf, type Ledger } from './ledger.ts';

/**
 * The `chunks` file of an entry, little endian:
 *
 *   0    8   magic
 *   8    4   version
 *   12   4   digest algorithm: 0 sha256, 1 blake3, 2 none
 *   16   8   inode number
 *   24   8   size of the blob, bytes
 *   32   4   chunks: c
 *   36   4   frames: f
 *   40   64  blob id, hex
 *   104  64  digest of the stored object, hex
 *   168  4   variant: N of the key `<id>~N`, 1 for `<id>`
 *   172  4   bit 0: frames have contexts, x = f, otherwise 0. Bit 1: there is a key, k = 1, otherwise 0. Bit 2: chunks
 *            have no digests, d = 0 and w = 1, otherwise d = 32 and w = 0
 *   176      bytes of the `dictionaries` file (with contexts) f64, dictionary offsets x × f64, frame offsets f × f64,
 *            chunk offsets c × f64, frame sizes, decoded sizes f × u32, chunk sizes, frames, frame offsets c × u32,
 *            dictionary sizes x × u32, chunk digests c × d, dictionary digests x × 32, key and iv k × 48,
 *            whole digest and origin w × 65 (algorithm: 0 there is none, 1 sha256, 2 git-sha1; 32 bytes each),
 *            bits, values x × u8, codecs f × u8
 *   end  32  BLAKE3 of all before (SHA-256 would hold the thread five times as long)
 */
const MAGIC = 'NYMPHLGR';
export const LEDGER_VERSION = 1;
const HEADER_SIZE = 176;
const FLAGS_OFFSET = 172;
const HAS_CONTEXTS = 1;
const HAS_CIPHER = 2;
const IS_WHOLE = 4;
const KEY_SIZE = 32;
const IV_SIZE = 16;
const ALGORITHMS: readonly ChunkDigest[] = ['sha256', 'blake3', 'none'];
const WHOLE_ALGORITHMS = [undefined, { algorithm: 'sha256', size: 32 }, { algorithm: 'git-sha1', size: 20 }] as const;
const WHOLE_SIZE = 1 + 2 * DIGEST_SIZE;
const STRUCTURE = 'chunk ledger';

export interface StoredLedger {
  ino: number;
  variant: number;
  ledger: Ledger;
}

/** What decides the size of the file. */
interface Shape {
  chunks: number;
  frames: number;
  flags: number;
}

function sizeOf({ chunks, frames, flags }: Shape): number {
  const contexts = (flags & HAS_CONTEXTS) === 0 ? 0 : 8 + frames * (8 + 4 + DIGEST_SIZE + 1 + 1);
  const cipher = (flags & HAS_CIPHER) === 0 ? 0 : KEY_SIZE + IV_SIZE;
  const whole = (flags & IS_WHOLE) === 0 ? 0 : WHOLE_SIZE;
  const digest = whole === 0 ? DIGEST_SIZE : 0;
  const tables = frames * (8 + 4 + 4 + 1) + chunks * (8 + 4 + 4 + 4 + digest);
  return HEADER_SIZE + tables + contexts + cipher + whole + DIGEST_SIZE;
}

type Tables = Pick<Ledger, 'chunks' | 'frames' | 'cipher'> & { dictionarySize: Float64Array; whole?: Uint8Array };

/** Views of the arrays in file order: the widest first, so that each is aligned. */
function tablesIn(buffer: ArrayBuffer, { chunks, frames, flags }: Shape): Tables {
  let at = HEADER_SIZE;
  const take = <T>(make: new (buffer: ArrayBuffer, at: number, length: number) => T, length: number, width: number) => {
    const view = new make(buffer, at, length);
    at += length * width;
    return view;
  };
  const inMidst = (flags & HAS_CONTEXTS) !== 0;
  const contexts = inMidst ? frames : 0;
  const dictionarySize = take(Float64Array, inMidst ? 1 : 0, 8);
  const dictionaryOffset = take(Float64Array, contexts, 8);
  const frameOffset = take(Float64Array, frames, 8);
  const chunkOffset = take(Float64Array, chunks, 8);
  const frameSize = take(Uint32Array, frames, 4);
  const decodedSize = take(Uint32Array, frames, 4);
  const chunkTable = {
    count: chunks,
    offset: chunkOffset,
    size: take(Uint32Array, chunks, 4),
    frame: take(Uint32Array, chunks, 4),
    frameOffset: take(Uint32Array, chunks, 4),
  };
  const dictionarySizes = take(Uint32Array, contexts, 4);
  const isWhole = (flags & IS_WHOLE) !== 0;
  const digest = take(Uint8Array, isWhole ? 0 : chunks * DIGEST_SIZE, 1);
  const dictionaryDigest = take(Uint8Array, contexts * DIGEST_SIZE, 1);
  const cipher =
    (flags & HAS_CIPHER) === 0 ? undefined : { key: take(Uint8Array, KEY_SIZE, 1), iv: take(Uint8Array, IV_SIZE, 1) };
  const whole = isWhole ? take(Uint8Array, WHOLE_SIZE, 1) : undefined;
  const bits = take(Uint8Array, contexts, 1);
  const value = take(Uint8Array, contexts, 1);
  const codec = take(Uint8Array, frames, 1);
  return {
    dictionarySize,
    frames: {
      count: frames,
      offset: frameOffset,
      size: frameSize,
      decodedSize,
      codec,
      ...(inMidst && {
        contexts: { bits, value, dictionaryOffset, dictionarySize: dictionarySizes, dictionaryDigest },
      }),
    },
    chunks: { ...chunkTable, digest },
    ...(cipher && { cipher }),
    ...(whole && { whole }),
  };
}

function shapeOf({ chunks, frames, cipher, digestAlgorithm }: Ledger): Shape {
  const isWhole = digestAlgorithm === 'none';
  const flags = (frames.contexts ? HAS_CONTEXTS : 0) | (cipher ? HAS_CIPHER : 0) | (isWhole ? IS_WHOLE : 0);
  return { chunks: chunks.count, frames: frames.count, flags };
}

export function encodeLedger({ ino, variant, ledger }: StoredLedger): Uint8Array {
  const { chunks, frames, cipher } = ledger;
  const { contexts } = frames;
  const shape = shapeOf(ledger);
  const bytes = Buffer.from(new ArrayBuffer(sizeOf(shape)));
  bytes.write(MAGIC, 0, 'latin1');
  bytes.writeUInt32LE(LEDGER_VERSION, 8);
  bytes.writeUInt32LE(ALGORITHMS.indexOf(ledger.digestAlgorithm), 12);
  bytes.writeBigUInt64LE(BigInt(ino), 16);
  bytes.writeBigUInt64LE(BigInt(ledger.size), 24);
  bytes.writeUInt32LE(chunks.count, 32);
  bytes.writeUInt32LE(frames.count, 36);
  bytes.write(ledger.id, 40, 64, 'latin1');
  bytes.write(ledger.digest.slice('sha256:'.length), 104, 64, 'latin1');
  bytes.writeUInt32LE(variant, 168);
  bytes.writeUInt32LE(shape.flags, FLAGS_OFFSET);
  const tables = tablesIn(bytes.buffer as ArrayBuffer, shape);
  tables.frames.offset.set(frames.offset.subarray(0, frames.count));
  tables.frames.size.set(frames.size.subarray(0, frames.count));
  tables.frames.decodedSize.set(frames.decodedSize.subarray(0, frames.count));
  tables.frames.codec.set(frames.codec.subarray(0, frames.count));
  tables.chunks.offset.set(chunks.offset.subarray(0, chunks.count));
  tables.chunks.size.set(chunks.size.subarray(0, chunks.count));
  tables.chunks.frame.set(chunks.frame.subarray(0, chunks.count));
  tables.chunks.frameOffset.set(chunks.frameOffset.subarray(0, chunks.count));
  tables.chunks.digest.set(chunks.digest.subarray(0, chunks.count * digestSizeOf(ledger.digestAlgorithm)));
  if (tables.whole) putWhole(tables.whole, ledger);
  if (contexts && tables.frames.contexts) {
    const to = tables.frames.contexts;
    tables.dictionarySize[0] = ledger.dictionarySize;
    to.bits.set(contexts.bits.subarray(0, frames.count));
    to.value.set(contexts.value.subarray(0, frames.count));
    to.dictionaryOffset.set(contexts.dictionaryOffset.subarray(0, frames.count));
    to.dictionarySize.set(contexts.dictionarySize.subarray(0, frames.count));
    to.dictionaryDigest.set(contexts.dictionaryDigest.subarray(0, frames.count * DIGEST_SIZE));
  }
  if (cipher && tables.cipher) {
    tables.cipher.key.set(cipher.key);
    tables.cipher.iv.set(cipher.iv);
  }
  bytes.set(digestOf('blake3', bytes.subarray(0, -DIGEST_SIZE)), bytes.length - DIGEST_SIZE);
  return bytes;
}

/** The same ledger with its tables as views of its file: one buffer in place of nine, of 300 bytes each. @param encoded as `encodeLedger` gave it */
export function withTablesOf(encoded: Uint8Array, ledger: Ledger): Ledger {
  const { chunks, frames } = tablesIn(encoded.buffer as ArrayBuffer, shapeOf(ledger));
  return { ...ledger, chunks, frames };
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
  if (version !== LEDGER_VERSION) throw corrupt(STRUCTURE, 'version', 8, `${version} is not known`);
  const shape = {
    chunks: view.readUInt32LE(32),
    frames: view.readUInt32LE(36),
    flags: view.readUInt32LE(FLAGS_OFFSET),
  };
  if ((shape.flags & ~(HAS_CONTEXTS | HAS_CIPHER | IS_WHOLE)) !== 0)
    throw corrupt(STRUCTURE, 'flags', FLAGS_OFFSET, 'not known');
  if (view.length !== sizeOf(shape)) throw corrupt(STRUCTURE, 'counts', 32, 'contradict the size of the file');
  const digestAlgorithm = ALGORITHMS[view.readUInt32LE(12)];
  if (!digestAlgorithm || (digestAlgorithm === 'none') !== ((shape.flags & IS_WHOLE) !== 0))
    throw corrupt(STRUCTURE, 'digest algorithm', 12, 'is not known');
  const id = view.toString('latin1', 40, 104);
  if (!BLOB_ID.test(id)) throw corrupt(STRUCTURE, 'blob id', 40, 'is none');
  const objectDigest = view.toString('latin1', 104, 168);
  if (!BLOB_ID.test(objectDigest)) throw corrupt(STRUCTURE, 'digest of the object', 104, 'is none');
  const { dictionarySize, whole, ...tables } = tablesIn(aligned.buffer as ArrayBuffer, shape);
  const ledger: Ledger = {
    id,
    digest: `sha256:${objectDigest}`,
    digestAlgorithm,
    size: wholeNumber(view, 24, 'size'),
    ...tables,
    ...(whole && getWhole(whole)),
    dictionarySize: dictionarySize[0] ?? 0,
  };
  checkTables(ledger);
  return { ino: wholeNumber(view, 16, 'inode number'), variant: view.readUInt32LE(168), ledger };
}

function wholeNumber(view: Buffer, at: number, field: string): number {
  const value = Number(view.readBigUInt64LE(at));
  if (!Number.isSafeInteger(value)) throw corrupt(STRUCTURE, field, at, 'larger than 2^53 - 1');
  return value;
}

function putWhole(to: Uint8Array, { whole, origin = '' }: Ledger): void {
  to[0] = WHOLE_ALGORITHMS.findIndex((known) => known?.algorithm === whole?.algorithm);
  if (whole) to.set(Buffer.from(whole.hex, 'hex'), 1);
  to.set(Buffer.from(origin, 'hex'), 1 + DIGEST_SIZE);
}

function getWhole(from: Uint8Array): { whole?: WholeDigest; origin: string } {
  const known = WHOLE_ALGORITHMS[from[0]];
  if (known === undefined && from[0] !== 0) throw corrupt(STRUCTURE, 'whole digest', 0, 'is of no known algorithm');
  const hexOf = (start: number, size: number) => Buffer.from(from.subarray(start, start + size)).toString('hex');
  const origin = hexOf(1 + DIGEST_SIZE, DIGEST_SIZE);
  return { origin, ...(known && { whole: { algorithm: known.algorithm, hex: hexOf(1, known.size) } }) };
}
