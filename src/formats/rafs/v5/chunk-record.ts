import { DIGEST_SIZE } from '../../../codec/digest.ts';
import { corrupt } from '../../../errors.ts';
import { BLOCK_SIZE, type DigestAlgorithm } from '../../../image/image.ts';
import { RECORD } from '../chunk-records.ts';
import { BLOB_ALIGNED, unsupported } from '../flags.ts';
import { type BlobV5, MAX_UNCOMPRESSED_SIZE } from './blob-table.ts';
import { createZeroDigests } from './holes.ts';
import type { FileV5 } from './tree.ts';

/** A field of v5 records beside those of {@link RECORD}. */
export const FILE_OFFSET = 64;
export const STRUCTURE = 'RAFS v5 chunk';
const COMPRESSED = 0x1;
const HOLE = 0x2;
const HAS_CRC = 0x10;
const FLAG_NAMES: readonly (readonly [bit: number, name: string])[] = [
  [0x4, 'encrypted'],
  [0x8, 'batch'],
];

/** @param at byte offset of a record */
export function isHole(view: DataView, at: number): boolean {
  return (view.getUint32(at + RECORD.flags, true) & HOLE) !== 0;
}

/** Where the chunk of a record starts in the uncompressed blob, bytes. */
export function startOf(view: DataView, at: number): number {
  return u64(view, at + RECORD.uncompressedOffset);
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

/**
 * Makes a check of single records: chunk `k` of a file, at byte `at`. Returns the blob of the chunk, -1 for a hole.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function createChunkCheck(
  view: DataView,
  blobs: readonly BlobV5[],
  { chunkSize, digester }: { chunkSize: number; digester: DigestAlgorithm },
): (at: number, file: FileV5, k: number) => number {
  const zeroDigest = createZeroDigests(digester);
  return (at, file, k) => {
    const fail = (field: string, offset: number, why: string) =>
      corrupt(STRUCTURE, field, at + offset, `${why} (chunk ${k} of inode ${file.index})`);
    const flags = view.getUint32(at + RECORD.flags, true);
    if ((flags & ~(COMPRESSED | HOLE | HAS_CRC)) !== 0) throw unknownFlags(flags, at);
    const fileOffset = u64(view, at + FILE_OFFSET);
    if (fileOffset !== k * chunkSize) throw fail('file_offset', FILE_OFFSET, `${fileOffset}, not ${k * chunkSize}`);
    const size = view.getUint32(at + RECORD.uncompressedSize, true);
    const wanted = Math.min(chunkSize, file.size - k * chunkSize);
    if (size !== wanted)
      throw fail('uncompressed_size', RECORD.uncompressedSize, `${size}, but the file needs ${wanted}`);
    if ((flags & HOLE) !== 0) {
      // The digest of an inode does not cover the flag: without this, a flipped bit would turn content into zeros.
      const digest = new Uint8Array(view.buffer, view.byteOffset + at, DIGEST_SIZE);
      if (Buffer.compare(digest, zeroDigest(size)) === 0) return -1;
      throw fail('flags', RECORD.flags, 'a hole, but the digest is not that of zeros');
    }
    const index = view.getUint32(at + RECORD.blobIndex, true);
    if (index >= blobs.length) throw fail('blob_index', RECORD.blobIndex, `${index} of ${blobs.length}`);
    const { uncompressedSize = MAX_UNCOMPRESSED_SIZE, features } = blobs[index];
    const start = startOf(view, at);
    if (start + size > uncompressedSize) {
      const why = `${size} bytes at ${start} leave the ${uncompressedSize} of the blob`;
      throw fail('uncompressed_offset', RECORD.uncompressedOffset, why);
    }
    if ((features & BLOB_ALIGNED) !== 0 && start % BLOCK_SIZE !== 0) {
      throw fail('uncompressed_offset', RECORD.uncompressedOffset, `${start} is not aligned, though the blob is`);
    }
    return index;
  };
}

function unknownFlags(flags: number, at: number): Error {
  const unknown = flags & ~(COMPRESSED | HOLE | HAS_CRC);
  const names = FLAG_NAMES.filter(([bit]) => unknown & bit).map(([, name]) => `${name}, `);
  const shown = `${names.join('')}0x${(unknown >>> 0).toString(16)}`;
  return unsupported(`${STRUCTURE}: flags that v5 chunks do not have (${shown}) at byte ${at + RECORD.flags}`);
}
