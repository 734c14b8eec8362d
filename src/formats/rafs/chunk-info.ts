import { decodeFrame } from '../../codec/frame.ts';
import { readU64 } from '../../erofs/fields.ts';
import { corrupt } from '../../errors.ts';
import { CODECS } from '../../image/image.ts';
import type { BlobEntry } from './blob-table.ts';
import { BLOB_CHUNKDICT_GENERATED, unsupported } from './flags.ts';

/** The chunk information (CI) array of a blob in its second form, with batch contexts. All inside `view`. */
export interface ChunkInfo {
  readonly view: DataView;
  /** Entries of {@link CHUNK_INFO_ENTRY_SIZE} bytes, from byte 0 on. */
  readonly count: number;
  /** Contexts of {@link BATCH_CONTEXT_SIZE} bytes, from this byte on. */
  readonly contextOffset: number;
  readonly contextCount: number;
}

/** Where one chunk is stored. */
export interface ChunkPlace {
  offset: number;
  size: number;
  uncompressedOffset: number;
  uncompressedSize: number;
  compressed: boolean;
  /** Index of the batch that holds the chunk, and its place in the decoded batch; -1 if it is stored alone. */
  batch: number;
  batchOffset: number;
}

export interface BatchContext {
  compressedSize: number;
  uncompressedSize: number;
}

export const CHUNK_INFO_ENTRY_SIZE = 24;
export const BATCH_CONTEXT_SIZE = 40;
export const CHUNK_INFO_HEADER_SIZE = 4096;

const STRUCTURE = 'RAFS chunk information';
const MAGIC = 0xb10bb10b;
/** Five million chunks: more than any image that one machine serves. */
const MAX_ARRAY_SIZE = 128 * 1024 * 1024;
const FLAG_COMPRESSED = 0x1;
const FLAG_BATCH = 0x4;
const FLAG_CRC32 = 0x10;

/** Where the chunk information is in the blob's object: bytes to ask the source for, then {@link chunkInfoFromBlob}. */
export function chunkInfoRange(blob: BlobEntry): { offset: number; length: number } {
  const { offset, compressedSize, uncompressedSize } = blob.chunkInfo;
  if (compressedSize > MAX_ARRAY_SIZE || uncompressedSize > MAX_ARRAY_SIZE) {
    throw unsupported(`${STRUCTURE}: ${Math.max(compressedSize, uncompressedSize)} bytes are above the limit`);
  }
  return { offset, length: compressedSize + CHUNK_INFO_HEADER_SIZE };
}

/**
 * Chunk information from the range of the blob that {@link chunkInfoRange} names.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function chunkInfoFromBlob(blob: BlobEntry, range: Uint8Array): ChunkInfo {
  const { length } = chunkInfoRange(blob);
  if (range.length !== length) throw corrupt(STRUCTURE, 'size', 0, `${range.length} bytes, not ${length}`);
  const { codec, compressedSize, uncompressedSize } = blob.chunkInfo;
  const stored = range.subarray(0, compressedSize);
  return parse(blob, decodeFrame(codec, stored, uncompressedSize), range.subarray(compressedSize));
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
  if (contextOffset + contextCount * BATCH_CONTEXT_SIZE > array.length) {
    throw corrupt(`${STRUCTURE} header`, 'ci_zran_count', 56, `${contextCount} do not fit in ${array.length} bytes`);
  }
  return { view: new DataView(array.buffer, array.byteOffset, array.length), count, contextOffset, contextCount };
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
  if ((flags & ~(FLAG_COMPRESSED | FLAG_BATCH | FLAG_CRC32)) !== 0) {
    throw unsupported(`${STRUCTURE}: chunk ${index} has flags 0x${flags.toString(16)}`);
  }
  const inBatch = (flags & FLAG_BATCH) !== 0;
  const offsetLow = view.getUint32(at + 8, true);
  const sizeAndOffset = view.getUint32(at + 12, true);
  return {
    offset: (sizeAndOffset & 0xff) * 0x1_0000_0000 + offsetLow,
    size: sizeAndOffset >>> 8,
    uncompressedOffset: view.getUint32(at, true) * 4096,
    uncompressedSize: (sizeAndFlags & 0xffffff) + 1,
    compressed: (flags & FLAG_COMPRESSED) !== 0,
    batch: inBatch ? view.getUint32(at + 20, true) : -1,
    batchOffset: inBatch ? view.getUint32(at + 16, true) : 0,
  };
}

/** Context of batch `index`. @throws NymphError `corrupt` */
export function readBatchContext(info: ChunkInfo, index: number): BatchContext {
  if (index >= info.contextCount) throw corrupt(STRUCTURE, 'batch index', 0, `batch ${index} of ${info.contextCount}`);
  const at = info.contextOffset + index * BATCH_CONTEXT_SIZE;
  return { compressedSize: info.view.getUint32(at, true), uncompressedSize: info.view.getUint32(at + 4, true) };
}
