import { decrypt } from '../../codec/decrypt.ts';
import { digestOf } from '../../codec/digest.ts';
import { decodeFrame } from '../../codec/frame.ts';
import { readU64 } from '../../erofs/fields.ts';
import { corrupt } from '../../errors.ts';
import { CODECS } from '../../image/image.ts';
import type { BlobEntry } from './blob-table.ts';
import { BLOB_CHUNKDICT_GENERATED, unsupported } from './flags.ts';
import { findBootstrapInBlob } from './toc.ts';

/** The chunk information (CI) array of a blob in its second form, with its contexts. All inside `view`. */
export interface ChunkInfo {
  readonly view: DataView;
  /** Entries of {@link CHUNK_INFO_ENTRY_SIZE} bytes, from byte 0 on. */
  readonly count: number;
  /** Contexts of {@link CONTEXT_SIZE} bytes, from this byte on. */
  readonly contextOffset: number;
  readonly contextCount: number;
  /** Where what belongs to the contexts ends: of ZRAN, dictionaries follow them. */
  readonly contextEnd: number;
}

/** A range of an object that has to be read. */
export interface ObjectRange {
  /** 64 lower-case hex characters. */
  id: string;
  offset: number;
  length: number;
}

/** The ToC of a blob, as it was read. */
export interface ReadToc {
  range: ObjectRange;
  bytes: Uint8Array;
}

/** Where one chunk is stored. */
export interface ChunkPlace {
  offset: number;
  size: number;
  uncompressedOffset: number;
  uncompressedSize: number;
  compressed: boolean;
  /** What holds the chunk: a batch, a context of a gzip stream, or nothing else. */
  kind: 'alone' | 'batch' | 'zran';
  /** Index of that context, and the chunk's place in what it decodes to. */
  context: number;
  contextOffset: number;
}

export interface BatchContext {
  compressedSize: number;
  uncompressedSize: number;
}

export const CHUNK_INFO_ENTRY_SIZE = 24;
export const CONTEXT_SIZE = 40;
export const CHUNK_INFO_HEADER_SIZE = 4096;

const STRUCTURE = 'RAFS chunk information';
const MAGIC = 0xb10bb10b;
/** Five entries and a tar header take 1,152 bytes. */
const MAX_TOC_SIZE = 1 << 20;
/** Contexts for a layer of 16 GB: more than any. */
const MAX_ARRAY_SIZE = 512 * 1024 * 1024;
const FLAG_COMPRESSED = 0x1;
const FLAG_ZRAN = 0x2;
const FLAG_BATCH = 0x4;
const FLAG_ENCRYPTED = 0x8;
const FLAG_CRC32 = 0x10;
const KNOWN_FLAGS = FLAG_COMPRESSED | FLAG_ZRAN | FLAG_BATCH | FLAG_ENCRYPTED | FLAG_CRC32;

/**
 * Where the chunk information is: bytes to ask the source for, then {@link chunkInfoFromBlob}. An object of its own is
 * read whole where only its digest can verify it.
 */
export function chunkInfoRange(blob: BlobEntry): ObjectRange {
  const { separate } = blob;
  const { offset, compressedSize, uncompressedSize } = blob.chunkInfo;
  const most = Math.max(compressedSize, uncompressedSize, separate?.size ?? 0);
  if (most > MAX_ARRAY_SIZE) throw unsupported(`${STRUCTURE}: ${most} bytes are above the limit`);
  const length = compressedSize + CHUNK_INFO_HEADER_SIZE;
  if (separate === undefined) return { id: blob.id, offset, length };
  if (offset + length > separate.size)
    throw corrupt(STRUCTURE, 'ci_offset', offset, `${length} bytes do not fit in an object of ${separate.size}`);
  return isWhole(blob) ? { id: separate.id, offset: 0, length: separate.size } : { id: separate.id, offset, length };
}

/**
 * The ToC that can verify the chunk information, if there is one.
 * @param sizes of objects, by id, as far as they are known
 */
export function tocRange(blob: BlobEntry, sizes: ReadonlyMap<string, number>): ObjectRange | undefined {
  const { separate = { id: blob.id, size: sizes.get(blob.id) ?? 0 }, tocSize } = blob;
  if (tocSize === 0 || tocSize > Math.min(separate.size, MAX_TOC_SIZE)) return undefined;
  return { id: separate.id, offset: separate.size - tocSize, length: tocSize };
}

function isWhole(blob: BlobEntry): boolean {
  return blob.separate !== undefined && blob.tocSize === 0;
}

/**
 * Chunk information from the range that {@link chunkInfoRange} names.
 * @param toc what {@link tocRange} names, where there is one: the blob table has its digest, and it has that of the chunk
 *   information
 * @throws NymphError `corrupt` or `unsupported`
 */
export function chunkInfoFromBlob(blob: BlobEntry, range: Uint8Array, toc?: ReadToc): ChunkInfo {
  const { length } = chunkInfoRange(blob);
  if (range.length !== length) throw corrupt(STRUCTURE, 'size', 0, `${range.length} bytes, not ${length}`);
  if (isWhole(blob)) verify(range, Buffer.from(blob.separate!.id, 'hex'), 'the digest in the blob table');
  const { codec, offset, compressedSize, uncompressedSize } = blob.chunkInfo;
  const stored = isWhole(blob) ? range.subarray(offset) : range;
  const open = (part: Uint8Array) => (blob.cipher ? decrypt(blob.cipher, part) : part);
  const array = decodeFrame(codec, open(stored.subarray(0, compressedSize)), uncompressedSize);
  const header = open(stored.subarray(compressedSize, compressedSize + CHUNK_INFO_HEADER_SIZE));
  if (toc !== undefined) verifyByToc(blob, array, header, toc);
  return parse(blob, array, header);
}

function verifyByToc(blob: BlobEntry, array: Uint8Array, header: Uint8Array, toc: ReadToc): void {
  const known = { size: blob.tocSize, sha256: blob.tocDigest };
  const { chunkInfo, chunkInfoHeader } = findBootstrapInBlob(toc.bytes, toc.range.offset + toc.range.length, known);
  if (chunkInfo?.sha256) verify(array, chunkInfo.sha256, 'the digest in the ToC');
  if (chunkInfoHeader?.sha256) verify(header, chunkInfoHeader.sha256, 'the digest in the ToC');
}

function verify(bytes: Uint8Array, sha256: Uint8Array, what: string): void {
  if (Buffer.compare(digestOf('sha256', bytes), sha256) !== 0) throw corrupt(STRUCTURE, 'sha256', 0, `not ${what}`);
}

/**
 * Chunk information from `image/<blob id>.blob.meta` of the bootstrap layer: the array as it is, padding to 4 KiB, header.
 * @throws NymphError `corrupt`
 */
export function chunkInfoFromMeta(blob: BlobEntry, meta: Uint8Array): ChunkInfo {
  const { uncompressedSize } = blob.chunkInfo;
  if (meta.length < uncompressedSize + CHUNK_INFO_HEADER_SIZE) {
    throw corrupt(STRUCTURE, 'size', 0, `${meta.length} bytes cannot hold ${uncompressedSize} and a header`);
  }
  return parse(blob, meta.subarray(0, uncompressedSize), meta.subarray(meta.length - CHUNK_INFO_HEADER_SIZE));
}

function parse(blob: BlobEntry, array: Uint8Array, headerBytes: Uint8Array): ChunkInfo {
  const header = new DataView(headerBytes.buffer, headerBytes.byteOffset, CHUNK_INFO_HEADER_SIZE);
  const expect = (field: string, at: number, value: number, expected: number) => {
    if (value !== expected) throw corrupt(`${STRUCTURE} header`, field, at, `${value}, not ${expected}`);
  };
  const u64 = (at: number, field: string) => readU64(header, at, `${STRUCTURE} header`, field);
  expect('magic', 0, header.getUint32(0, true), MAGIC);
  expect('magic', 4092, header.getUint32(4092, true), MAGIC);
  expect('ci_compressor', 8, header.getUint32(8, true), CODECS.indexOf(blob.chunkInfo.codec));
  const count = header.getUint32(12, true);
  if ((blob.features & BLOB_CHUNKDICT_GENERATED) === 0) expect('ci_entries', 12, count, blob.chunkCount);
  expect('ci_offset', 16, u64(16, 'ci_offset'), blob.chunkInfo.offset);
  expect('ci_compressed_size', 24, u64(24, 'ci_compressed_size'), blob.chunkInfo.compressedSize);
  expect('ci_uncompressed_size', 32, u64(32, 'ci_uncompressed_size'), array.length);
  const contextOffset = u64(40, 'ci_zran_offset');
  const contextCount = header.getUint32(56, true);
  if (count * CHUNK_INFO_ENTRY_SIZE > array.length) {
    throw corrupt(`${STRUCTURE} header`, 'ci_entries', 12, `${count} do not fit in ${array.length} bytes`);
  }
  if (contextOffset + contextCount * CONTEXT_SIZE > array.length) {
    throw corrupt(`${STRUCTURE} header`, 'ci_zran_count', 56, `${contextCount} do not fit in ${array.length} bytes`);
  }
  const contextEnd = contextOffset + u64(48, 'ci_zran_size');
  if (contextEnd > array.length) {
    throw corrupt(`${STRUCTURE} header`, 'ci_zran_size', 48, `reaches to ${contextEnd} of ${array.length} bytes`);
  }
  const view = new DataView(array.buffer, array.byteOffset, array.length);
  return { view, count, contextOffset, contextCount, contextEnd };
}

/**
 * Entry `index` of the array.
 * @throws NymphError `corrupt`, or `unsupported` for chunks of kinds that the blob table excludes
 */
export function readChunkPlace(info: ChunkInfo, index: number): ChunkPlace {
  const { view } = info;
  if (index >= info.count) throw corrupt(STRUCTURE, 'index', 0, `chunk ${index} of ${info.count}`);
  const at = index * CHUNK_INFO_ENTRY_SIZE;
  const sizeAndFlags = view.getUint32(at + 4, true);
  const flags = sizeAndFlags >>> 24;
  if ((flags & ~KNOWN_FLAGS) !== 0 || (flags & (FLAG_BATCH | FLAG_ZRAN)) === (FLAG_BATCH | FLAG_ZRAN)) {
    throw unsupported(`${STRUCTURE}: chunk ${index} has flags 0x${flags.toString(16)}`);
  }
  const kind = (flags & FLAG_BATCH) !== 0 ? 'batch' : (flags & FLAG_ZRAN) !== 0 ? 'zran' : 'alone';
  const offsetLow = view.getUint32(at + 8, true);
  const sizeAndOffset = view.getUint32(at + 12, true);
  return {
    offset: (sizeAndOffset & 0xff) * 0x1_0000_0000 + offsetLow,
    size: sizeAndOffset >>> 8,
    uncompressedOffset: view.getUint32(at, true) * 4096,
    uncompressedSize: (sizeAndFlags & 0xffffff) + 1,
    compressed: (flags & FLAG_COMPRESSED) !== 0,
    kind,
    context: view.getUint32(at + 20, true),
    contextOffset: view.getUint32(at + 16, true),
  };
}

/** Context of batch `index`. @throws NymphError `corrupt` */
export function readBatchContext(info: ChunkInfo, index: number): BatchContext {
  if (index >= info.contextCount) throw corrupt(STRUCTURE, 'batch index', 0, `batch ${index} of ${info.contextCount}`);
  const at = info.contextOffset + index * CONTEXT_SIZE;
  return { compressedSize: info.view.getUint32(at, true), uncompressedSize: info.view.getUint32(at + 4, true) };
}
