import { BLOCK_SIZE, CODECS, type Codec } from '../../../image/image.ts';
import { CHUNK_INFO_ENTRY_SIZE, CHUNK_INFO_HEADER_SIZE, CONTEXT_SIZE } from '../chunk-info.ts';

/** A chunk that was stored. Offsets and sizes in bytes. */
export interface WrittenChunk {
  digest: Buffer;
  /** Position of its blob in the table of blobs. */
  blob: number;
  /** Position in the blob's chunk information array. */
  index: number;
  /** Uncompressed. */
  offset: number;
  size: number;
  /** In the object: of the frame. 0 bytes for members of a batch, whose context knows. */
  storedOffset: number;
  storedSize: number;
  compressed: boolean;
  /** Number of the batch and the place in it, or -1. */
  batch: number;
  batchOffset: number;
}

/** A batch of small chunks that share a frame. */
export interface WrittenBatch {
  storedSize: number;
  size: number;
}

const MAGIC = 0xb10bb10b;
const ENTRY_V1_SIZE = 16;
const FLAG_COMPRESSED = 1;
const FLAG_BATCH = 4;

/**
 * Encodes the chunk information array: version 1 without batches, else version 2 with the batch contexts behind it.
 * @param chunks in the order of their uncompressed offsets
 */
export function encodeChunkInfo(chunks: readonly WrittenChunk[], batches: readonly WrittenBatch[] | null): Buffer {
  if (!batches) {
    const array = Buffer.alloc(chunks.length * ENTRY_V1_SIZE);
    for (const [i, chunk] of chunks.entries()) {
      array.writeBigUInt64LE(packV1(chunk.offset, chunk.size, 8n), i * ENTRY_V1_SIZE);
      array.writeBigUInt64LE(packV1(chunk.storedOffset, chunk.storedSize, 40n), i * ENTRY_V1_SIZE + 8);
    }
    return array;
  }
  const contexts = chunks.length * CHUNK_INFO_ENTRY_SIZE;
  const array = Buffer.alloc(contexts + batches.length * CONTEXT_SIZE);
  for (const [i, chunk] of chunks.entries()) {
    const at = i * CHUNK_INFO_ENTRY_SIZE;
    const flags = (chunk.compressed ? FLAG_COMPRESSED : 0) | (chunk.batch >= 0 ? FLAG_BATCH : 0);
    array.writeUInt32LE(chunk.offset / BLOCK_SIZE, at);
    array.writeUInt32LE((flags * 2 ** 24 + chunk.size - 1) >>> 0, at + 4);
    array.writeBigUInt64LE((BigInt(chunk.storedSize) << 40n) | BigInt(chunk.storedOffset), at + 8);
    if (chunk.batch < 0) continue;
    array.writeUInt32LE(chunk.batchOffset, at + 16);
    array.writeUInt32LE(chunk.batch, at + 20);
  }
  for (const [i, batch] of batches.entries()) {
    array.writeUInt32LE(batch.storedSize, contexts + i * CONTEXT_SIZE);
    array.writeUInt32LE(batch.size, contexts + i * CONTEXT_SIZE + 4);
  }
  return array;
}

/** Offset, and size - 1 in two parts: its low 20 bits from bit 44 on, its high 4 bits from `highShift` on. */
function packV1(offset: number, size: number, highShift: bigint): bigint {
  const less = BigInt(size - 1);
  return BigInt(offset) | ((less & 0xfffffn) << 44n) | ((less >> 20n) << highShift);
}

/** Encodes the header behind the array. */
export function encodeChunkInfoHeader(fields: {
  features: number;
  codec: Codec;
  entries: number;
  offset: number;
  storedSize: number;
  size: number;
  batches: number;
}): Buffer {
  const header = Buffer.alloc(CHUNK_INFO_HEADER_SIZE);
  header.writeUInt32LE(MAGIC, 0);
  header.writeUInt32LE(fields.features, 4);
  header.writeUInt32LE(CODECS.indexOf(fields.codec), 8);
  header.writeUInt32LE(fields.entries, 12);
  header.writeBigUInt64LE(BigInt(fields.offset), 16);
  header.writeBigUInt64LE(BigInt(fields.storedSize), 24);
  header.writeBigUInt64LE(BigInt(fields.size), 32);
  if (fields.batches > 0) {
    header.writeBigUInt64LE(BigInt(fields.entries * CHUNK_INFO_ENTRY_SIZE), 40);
    header.writeBigUInt64LE(BigInt(fields.batches * CONTEXT_SIZE), 48);
    header.writeUInt32LE(fields.batches, 56);
  }
  header.writeUInt32LE(MAGIC, CHUNK_INFO_HEADER_SIZE - 4);
  return header;
}
