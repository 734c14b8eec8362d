import { readU64 } from '../../erofs/fields.ts';
import { COMPAT_RAFS_V6, EROFS_MAGIC, SUPER_BLOCK_OFFSET } from '../../erofs/super-block.ts';
import { corrupt } from '../../errors.ts';
import { BLOCK_SIZE, type Codec, type DigestAlgorithm } from '../../image/image.ts';
import { CONVERT_AGAIN, SB_TARFS, SUPER_BLOCK_FLAGS, TARFS_REASON, unsupported } from './flags.ts';

/** Bytes `[offset, offset + size)` of the bootstrap; inside it. */
export interface Region {
  offset: number;
  size: number;
}

/** The extended super-block of RAFS v6, at byte 1152. */
export interface RafsSuperBlock {
  flags: number;
  /** Of the last building run: each blob has its own. */
  compressor: Codec;
  digester: DigestAlgorithm;
  /** Bytes, a power of two from 4 KiB to 16 MiB. */
  chunkSize: number;
  blobTable: Region;
  chunkTable: Region;
  prefetchTable: Region;
}

export const BLOB_ENTRY_SIZE = 256;
export const CHUNK_RECORD_SIZE = 80;
const PREFETCH_ENTRY_SIZE = 4;
/** The first four bytes of a RAFS v5 bootstrap. */
const RAFS_V5_MAGIC = 0x52414653;
const OFFSET = 1152;
const STRUCTURE = 'RAFS super-block';
const MIN_CHUNK_SIZE = 0x1000;
const MAX_CHUNK_SIZE = 0x1000000;

const COMPRESSOR_FLAGS: readonly (readonly [bit: number, codec: Codec])[] = [
  [0x1, 'none'],
  [0x2, 'lz4_block'],
  [0x40, 'gzip'],
  [0x80, 'zstd'],
];
const DIGEST_FLAGS: readonly (readonly [bit: number, algorithm: DigestAlgorithm])[] = [
  [0x4, 'blake3'],
  [0x8, 'sha256'],
];
const KNOWN_FLAGS = SUPER_BLOCK_FLAGS.reduce((all, [bit]) => all | bit, 0);
/** Reserved for bits that readers may ignore. */
const COMPATIBLE_FLAGS = 0xfc000000;

/**
 * The version of RAFS that a bootstrap is in.
 * @throws NymphError `corrupt` or `unsupported` if it is in neither
 */
export function rafsVersion(bytes: Uint8Array): 5 | 6 {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length >= 4 && view.getUint32(0, true) === RAFS_V5_MAGIC) return 5;
  if (bytes.length < BLOCK_SIZE || view.getUint32(SUPER_BLOCK_OFFSET, true) !== EROFS_MAGIC) {
    throw corrupt('bootstrap', 'magic', SUPER_BLOCK_OFFSET, 'no RAFS v5 or v6 bootstrap');
  }
  if ((view.getUint32(SUPER_BLOCK_OFFSET + 8, true) & COMPAT_RAFS_V6) === 0) {
    throw unsupported(
      'EROFS image without the mark of RAFS v6',
      'Only EROFS images made by Nydus builders can be read.',
    );
  }
  // Before the rest is read: such images have blocks of 512 bytes.
  if ((view.getUint32(OFFSET, true) & SB_TARFS) !== 0) throw unsupported(`RAFS image: ${TARFS_REASON}`, CONVERT_AGAIN);
  return 6;
}

/**
 * Reads and checks the extended super-block of a bootstrap of which the EROFS super-block was checked before.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readRafsSuperBlock(view: DataView): RafsSuperBlock {
  const flags = view.getUint32(OFFSET, true);
  const algorithms = readAlgorithms(STRUCTURE, OFFSET, flags, view.getUint32(OFFSET + 4, true));
  const chunkSize = readChunkSize(STRUCTURE, OFFSET + 20, view.getUint32(OFFSET + 20, true));
  const u64 = (at: number, field: string) => readU64(view, OFFSET + at, STRUCTURE, field);
  const region = (field: string, offset: number, size: number, unit: number, align: number): Region => {
    if (size === 0) return { offset: 0, size: 0 };
    if (offset % align !== 0 || size % unit !== 0 || offset + size > view.byteLength) {
      throw corrupt(STRUCTURE, field, OFFSET, `${size} bytes from ${offset} on: misplaced or outside the bootstrap`);
    }
    return { offset, size };
  };
  const prefetchOffset = u64(40, 'prefetch_table_offset');
  return {
    flags,
    ...algorithms,
    chunkSize,
    blobTable: region(
      'blob_table',
      u64(8, 'blob_table_offset'),
      view.getUint32(OFFSET + 16, true),
      BLOB_ENTRY_SIZE,
      BLOCK_SIZE,
    ),
    chunkTable: region(
      'chunk_table',
      u64(24, 'chunk_table_offset'),
      u64(32, 'chunk_table_size'),
      CHUNK_RECORD_SIZE,
      BLOCK_SIZE,
    ),
    // Old builders left the offset 0 where there is no table.
    prefetchTable: region(
      'prefetch_table',
      prefetchOffset,
      prefetchOffset === 0 ? 0 : view.getUint32(OFFSET + 48, true),
      PREFETCH_ENTRY_SIZE,
      PREFETCH_ENTRY_SIZE,
    ),
  };
}

/**
 * What the flags of a super-block, v5's or v6's, say of the building run.
 * @param at byte of the flags, u64
 * @throws NymphError `unsupported` naming the unknown bits, `corrupt` without exactly one compressor and one digest
 */
export function readAlgorithms(
  structure: string,
  at: number,
  low: number,
  high: number,
): { compressor: Codec; digester: DigestAlgorithm } {
  const unknown = (low & ~(KNOWN_FLAGS | COMPATIBLE_FLAGS)) >>> 0;
  if (unknown !== 0 || high !== 0) {
    const shown = (high * 0x1_0000_0000 + unknown).toString(16);
    throw unsupported(`${structure}: unknown flags 0x${shown}`, 'The image needs a newer nymph.');
  }
  const compressors = COMPRESSOR_FLAGS.filter(([bit]) => low & bit);
  if (compressors.length !== 1) {
    throw corrupt(structure, 'flags', at, `0x${low.toString(16)} does not name exactly one compressor`);
  }
  const digesters = DIGEST_FLAGS.filter(([bit]) => low & bit);
  if (digesters.length !== 1) {
    throw corrupt(structure, 'flags', at, `0x${low.toString(16)} does not name exactly one digest`);
  }
  return { compressor: compressors[0][1], digester: digesters[0][1] };
}

/** Checks a chunk size, bytes. @throws NymphError `corrupt` */
export function readChunkSize(structure: string, at: number, size: number): number {
  if (size < MIN_CHUNK_SIZE || size > MAX_CHUNK_SIZE || (size & (size - 1)) !== 0) {
    throw corrupt(structure, 'chunk_size', at, `${size} is no power of two from 4 KiB to 16 MiB`);
  }
  return size;
}
