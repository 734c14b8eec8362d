import { ROOT_NID } from '../../../erofs/write-image.ts';
import { type ErofsNode, writeInodes } from '../../../erofs/write-inodes.ts';
import {
  DEVICE_SLOT_SIZE,
  DEVICE_TABLE_OFFSET,
  type DeviceToWrite,
  writeSuperBlock,
} from '../../../erofs/write-super-block.ts';
import { NymphError } from '../../../errors.ts';
import { BLOCK_SIZE, CODECS, type DigestAlgorithm, wholeBlocks } from '../../../image/image.ts';
import { RECORD } from '../chunk-records.ts';
import { BLOB_ENTRY_SIZE, CHUNK_RECORD_SIZE } from '../super-block.ts';
import type { WrittenBlob } from './blob-writer.ts';
import type { WrittenChunk } from './chunk-info.ts';
import type { Compressor } from './compress.ts';
import type { SourceTree } from './tree.ts';

export interface BootstrapFields {
  tree: SourceTree;
  blobs: readonly WrittenBlob[];
  chunkSize: number;
  compressor: Compressor;
  digester: DigestAlgorithm;
  /** Inodes in the order of priority; the root means all: see {@link prefetchNodes}. */
  prefetch: readonly ErofsNode[];
  toc: boolean;
  /** Seconds since 1970. */
  buildTime: number;
}

const EXTENDED_SUPER_BLOCK = 1152;
const MAX_SIZE = 0x80000000;
/** Devices are mapped at multiples of 512 KiB. */
const MAPPING_BLOCKS = 128;
const MAX_BLOCK = 2 ** 32;
const DIGESTERS: readonly DigestAlgorithm[] = ['blake3', 'sha256'];
const COMPRESSOR_FLAGS: Record<Compressor, number> = { none: 0x1, lz4_block: 0x2, zstd: 0x80 };
const DIGESTER_FLAGS: Record<DigestAlgorithm, number> = { blake3: 0x4, sha256: 0x8 };
const FLAG_EXPLICIT_UID_GID = 0x10;
const FLAG_HAS_XATTR = 0x20;
const FLAG_INLINED_CHUNK_DIGEST = 0x100;
const FLAG_ENCRYPTION_NONE = 0x01000000;

/**
 * Encodes a RAFS v6 bootstrap: super-blocks, device slots, blob table, prefetch table, inodes, chunk table.
 * @throws NymphError `unsupported` above the limits of the format
 */
export function encodeBootstrap(fields: BootstrapFields): Buffer {
  const { tree, blobs, chunkSize } = fields;
  const blobTableAt = wholeBlocks(DEVICE_TABLE_OFFSET + blobs.length * DEVICE_SLOT_SIZE);
  const blobTableSize = blobs.length * BLOB_ENTRY_SIZE;
  const prefetchAt = blobTableAt + blobTableSize;
  const inodesAt = wholeBlocks(prefetchAt + fields.prefetch.length * 4);
  const area = writeInodes(tree.root, inodesAt / BLOCK_SIZE, ROOT_NID);
  const chunkTableAt = inodesAt + area.bytes.length;
  const chunks = sortedChunks(blobs);
  const chunkTableSize = chunks.length * CHUNK_RECORD_SIZE;
  const size = wholeBlocks(chunkTableAt + chunkTableSize);
  if (size > MAX_SIZE) throw new NymphError('unsupported', `a bootstrap of ${size} bytes; RAFS v6 allows 2 GiB`);

  const bytes = Buffer.alloc(size);
  writeSuperBlock(bytes, {
    rootNid: ROOT_NID,
    names: tree.names,
    buildTime: fields.buildTime,
    metaBlock: inodesAt / BLOCK_SIZE - 1,
    devices: devicesOf(blobs, size / BLOCK_SIZE),
  });
  const at = EXTENDED_SUPER_BLOCK;
  bytes.writeBigUInt64LE(BigInt(flagsOf(fields)), at);
  bytes.writeBigUInt64LE(BigInt(blobTableAt), at + 8);
  bytes.writeUInt32LE(blobTableSize, at + 16);
  bytes.writeUInt32LE(chunkSize, at + 20);
  bytes.writeBigUInt64LE(BigInt(chunkTableAt), at + 24);
  bytes.writeBigUInt64LE(BigInt(chunkTableSize), at + 32);
  bytes.writeBigUInt64LE(BigInt(prefetchAt), at + 40);
  bytes.writeUInt32LE(fields.prefetch.length * 4, at + 48);
  for (const [i, blob] of blobs.entries()) writeBlobEntry(bytes, blobTableAt + i * BLOB_ENTRY_SIZE, i, blob, fields);
  for (const [i, node] of fields.prefetch.entries()) bytes.writeUInt32LE(area.nidOf(node), prefetchAt + i * 4);
  bytes.set(area.bytes, inodesAt);
  for (const [i, chunk] of chunks.entries()) writeChunkRecord(bytes, chunkTableAt + i * CHUNK_RECORD_SIZE, chunk);
  return bytes;
}

/** The inodes behind a list of paths. @throws NymphError `usage` for a path that does not exist */
export function prefetchNodes(tree: SourceTree, wanted: 'all' | readonly (Buffer | string)[]): ErofsNode[] {
  if (wanted === 'all') return [tree.root];
  return wanted.map((path) => {
    const node = tree.find(path);
    if (!node) throw new NymphError('usage', `cannot prefetch ${path}: the tree has no such path`);
    return node;
  });
}

function flagsOf({ compressor, digester, tree, toc }: BootstrapFields): number {
  let flags = COMPRESSOR_FLAGS[compressor] | DIGESTER_FLAGS[digester] | FLAG_EXPLICIT_UID_GID | FLAG_ENCRYPTION_NONE;
  if (tree.hasXattrs) flags |= FLAG_HAS_XATTR;
  if (toc) flags |= FLAG_INLINED_CHUNK_DIGEST;
  return flags;
}

/** The kernel takes addresses inside a mapped range from the device, so no range may reach into the bootstrap. */
function devicesOf(blobs: readonly WrittenBlob[], bootstrapBlocks: number): DeviceToWrite[] {
  let free = bootstrapBlocks;
  return blobs.map((blob) => {
    const mappedBlock = Math.ceil(free / MAPPING_BLOCKS) * MAPPING_BLOCKS;
    const blocks = blob.uncompressedSize / BLOCK_SIZE;
    free = mappedBlock + blocks;
    if (free >= MAX_BLOCK) throw new NymphError('unsupported', 'blobs of more than 16 TiB together');
    return { tag: blob.id, blocks, mappedBlock };
  });
}

function writeBlobEntry(bytes: Buffer, at: number, index: number, blob: WrittenBlob, fields: BootstrapFields): void {
  const { tail } = blob;
  bytes.write(blob.id, at, 64, 'latin1');
  bytes.writeUInt32LE(index, at + 64);
  bytes.writeUInt32LE(fields.chunkSize, at + 68);
  bytes.writeUInt32LE(blob.chunks.length, at + 72);
  bytes.writeUInt32LE(CODECS.indexOf(fields.compressor), at + 76);
  bytes.writeUInt32LE(DIGESTERS.indexOf(fields.digester), at + 80);
  bytes.writeUInt32LE(tail.features, at + 84);
  bytes.writeBigUInt64LE(BigInt(blob.size), at + 88);
  bytes.writeBigUInt64LE(BigInt(blob.uncompressedSize), at + 96);
  bytes.writeUInt32LE(tail.tocSize, at + 104);
  bytes.writeUInt32LE(CODECS.indexOf(tail.chunkInfo.codec), at + 108);
  bytes.writeBigUInt64LE(BigInt(tail.chunkInfo.offset), at + 112);
  bytes.writeBigUInt64LE(BigInt(tail.chunkInfo.storedSize), at + 120);
  bytes.writeBigUInt64LE(BigInt(tail.chunkInfo.size), at + 128);
  bytes.set(tail.tocDigest, at + 136);
}

function sortedChunks(blobs: readonly WrittenBlob[]): WrittenChunk[] {
  const chunks = blobs.flatMap((blob) => blob.chunks);
  return chunks.sort((a, b) => Buffer.compare(a.digest, b.digest) || a.blob - b.blob || a.index - b.index);
}

function writeChunkRecord(bytes: Buffer, at: number, chunk: WrittenChunk): void {
  bytes.set(chunk.digest, at);
  bytes.writeUInt32LE(chunk.blob, at + RECORD.blobIndex);
  // Like upstream's: the record of a batch's member has neither flag nor stored size.
  bytes.writeUInt32LE(chunk.compressed && chunk.batch < 0 ? 1 : 0, at + RECORD.flags);
  bytes.writeUInt32LE(chunk.storedSize, at + RECORD.compressedSize);
  bytes.writeUInt32LE(chunk.size, at + RECORD.uncompressedSize);
  bytes.writeBigUInt64LE(BigInt(chunk.storedOffset), at + RECORD.compressedOffset);
  bytes.writeBigUInt64LE(BigInt(chunk.offset), at + RECORD.uncompressedOffset);
  bytes.writeUInt32LE(chunk.index, at + RECORD.index);
}
