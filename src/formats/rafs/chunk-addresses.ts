import { chunkAddressOffset, type Inode, kernelChunkSize, NULL_BLOCK } from '../../erofs/inode.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { corrupt } from '../../errors.ts';
import { BLOCK_SIZE } from '../../image/image.ts';
import { type BlobRecords, findRecord } from './chunk-records.ts';

/** Chunk `k` of a file: position in its blob's tables. */
export type ChunkVisitor = (blob: number, chunk: number, k: number) => void;

const STRUCTURE = 'RAFS chunk address';
const ADDRESS_SIZE = 8;
const CHUNK_FORMAT_INDEXES = 0x20;
const NO_ADDRESSES = Buffer.alloc(0);

/**
 * Visits the chunks of a chunk based file, in order, and checks each address against the chunk table.
 *
 * Nydus keeps one address for each RAFS chunk. The kernel may use a larger chunk size, which the builder writes into
 * inodes whose data is contiguous: then it looks at fewer of the same addresses. Both readings must lead to the same
 * bytes.
 * @param tables of all blobs, by index
 * @param allowHoles whether chunks may be missing, which read as zeros; RAFS v6 has none
 * @throws NymphError `corrupt`
 */
export function eachChunk(
  erofs: Erofs,
  inode: Inode,
  chunkSize: number,
  tables: readonly BlobRecords[],
  visit: ChunkVisitor,
  allowHoles = false,
): void {
  const { view } = erofs;
  const count = chunkCount(inode, chunkSize);
  const start = chunkAddressOffset(inode);
  if (start + count * ADDRESS_SIZE > erofs.bytes.length) {
    throw corrupt(STRUCTURE, 'size', inode.offset + 8, `${count} chunk addresses do not fit in the bootstrap`);
  }
  const kernelSize = kernelChunkSize(inode);
  // With smaller chunks than ours the kernel would look behind the addresses.
  if (kernelSize < chunkSize && inode.size > kernelSize) {
    throw corrupt(STRUCTURE, 'chunk format', inode.offset + 16, `chunks of ${kernelSize} bytes, not ${chunkSize}`);
  }
  let guess = 0;
  for (let k = 0; k < count; k++) {
    const at = start + k * ADDRESS_SIZE;
    const block = view.getUint32(at + 4, true);
    if (allowHoles && block === NULL_BLOCK && kernelSize === chunkSize) continue;
    const high = view.getUint16(at + 2, true);
    const blob = (high & 0xff) - 1;
    if (blob < 0 || blob >= tables.length)
      throw corrupt(STRUCTURE, 'device', at + 2, `blob ${blob} of ${tables.length}`);
    const index = ((high >> 8) << 16) | view.getUint16(at, true);
    const table = tables[blob];
    const chunk = table.index[guess] === index ? guess : findRecord(table, index);
    if (chunk < 0) throw corrupt(STRUCTURE, 'index', at, `chunk ${index} of blob ${blob} is not in the chunk table`);
    if (table.block[chunk] !== block) {
      throw corrupt(STRUCTURE, 'block', at + 4, `${block}, but the chunk table says ${table.block[chunk]}`);
    }
    const size = Math.min(chunkSize, inode.size - k * chunkSize);
    if (table.size[chunk] !== size) {
      throw corrupt(STRUCTURE, 'size', at, `the file needs ${size} bytes, the chunk table says ${table.size[chunk]}`);
    }
    const position = k * chunkSize;
    const first = Math.floor(position / kernelSize);
    const kernelAt = start + first * ADDRESS_SIZE;
    const kernelBlock = view.getUint32(kernelAt + 4, true) + (position - first * kernelSize) / BLOCK_SIZE;
    if (kernelBlock !== block || (view.getUint16(kernelAt + 2, true) & 0xff) !== blob + 1) {
      throw corrupt(
        STRUCTURE,
        'chunk format',
        inode.offset + 16,
        `the kernel would read chunk ${k} from another place`,
      );
    }
    visit(blob, chunk, k);
    guess = chunk + 1;
  }
}

/** Number of RAFS chunks of a file. */
export function chunkCount(inode: Inode, chunkSize: number): number {
  return Math.ceil(inode.size / chunkSize);
}

/** A chunk to write: its place, and its index in the blob. Undefined for a hole. */
export type ChunkToWrite = { blob: number; index: number; offset: number } | undefined;

/**
 * Chunk addresses of a file, one for each chunk, and the chunk format. Where all chunks stand behind each other in one
 * blob, the format says a chunk size that covers the file: the kernel then sees one extent (RAFS v6, "chunk based files").
 * @param chunkOf is asked for each chunk once, in order
 */
export function encodeChunks(
  size: number,
  chunkSize: number,
  chunkOf: (k: number) => ChunkToWrite,
): { format: number; addresses: Uint8Array } {
  const count = Math.ceil(size / chunkSize);
  // Out of a pool: most files have a chunk or two. Each byte is written below.
  const addresses = count === 0 ? NO_ADDRESSES : Buffer.allocUnsafe(count * ADDRESS_SIZE);
  let first: ChunkToWrite;
  let contiguous = count > 0;
  for (let k = 0; k < count; k++) {
    const chunk = chunkOf(k);
    const at = k * ADDRESS_SIZE;
    addresses.writeUInt16LE(chunk ? chunk.index & 0xffff : 0, at);
    addresses.writeUInt16LE(chunk ? (chunk.blob + 1) | ((chunk.index >>> 16) << 8) : 0, at + 2);
    addresses.writeUInt32LE(chunk ? chunk.offset / BLOCK_SIZE : NULL_BLOCK, at + 4);
    if (k === 0) first = chunk;
    contiguous &&= chunk !== undefined && chunk.blob === first?.blob && chunk.offset === first.offset + k * chunkSize;
  }
  let extent = chunkSize;
  if (contiguous) while (extent < size) extent *= 2;
  return { format: CHUNK_FORMAT_INDEXES | Math.log2(extent / BLOCK_SIZE), addresses };
}
