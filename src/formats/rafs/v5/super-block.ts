import { readU64 } from '../../../erofs/fields.ts';
import { corrupt } from '../../../errors.ts';
import type { Codec, DigestAlgorithm } from '../../../image/image.ts';
import { SB_AES_128_XTS, SB_TARFS, unsupported } from '../flags.ts';
import { type Region, readAlgorithms, readChunkSize } from '../super-block.ts';
import { INODE_HEAD_SIZE } from './inode.ts';

/** The super-block of RAFS v5, the first 8192 bytes. All tables are inside the bootstrap. */
export interface SuperBlock {
  flags: number;
  compressor: Codec;
  digester: DigestAlgorithm;
  /** Bytes, a power of two from 4 KiB to 16 MiB. */
  chunkSize: number;
  /** False where the builder kept no owners: all belongs to root then. */
  hasOwners: boolean;
  /** u32 each: where the record of an inode is, in units of 8 bytes. Entry 0 is the root. */
  inodeTable: Region;
  /** u32 each: positions in the inode table, counted from 1. */
  prefetchTable: Region;
  blobTable: Region;
  /** 64 bytes each; empty in images of the first builders. */
  extendedBlobTable: Region;
}

export const EXTENDED_BLOB_SIZE = 64;
export const INDEX_SIZE = 4;
const STRUCTURE = 'RAFS v5 super-block';
const SIZE = 8192;
const VERSION_4 = 0x400;
const VERSION_5 = 0x500;
const MAX_FILE_SIZE = 0x80000000;
const EXPLICIT_UID_GID = 0x10;

/**
 * Reads and checks the super-block of a bootstrap that has the magic number of v5.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readSuperBlock(view: DataView): SuperBlock {
  const size = view.byteLength;
  if (size >= 8) requireVersion(view.getUint32(4, true));
  if (size < SIZE || size > MAX_FILE_SIZE) throw corrupt('bootstrap', 'size', 0, `${size} bytes, of 8 KiB to 2 GiB`);
  const u32 = (at: number) => view.getUint32(at, true);
  const u64 = (at: number, field: string) => readU64(view, at, STRUCTURE, field);
  if (u32(8) !== SIZE) throw corrupt(STRUCTURE, 'sb_size', 8, `${u32(8)}, not ${SIZE}`);
  const flags = u32(16);
  const algorithms = readAlgorithms(STRUCTURE, 16, flags, u32(20));
  if ((flags & SB_TARFS) !== 0) throw unsupported('RAFS v5 image: TARFS mode is not supported');
  if ((flags & SB_AES_128_XTS) !== 0) throw unsupported('RAFS v5 image: ENCRYPTED data (aes-128-xts) is not supported');
  const region = (field: string, at: number, count: number, unit: number): Region => {
    if (count === 0) return { offset: 0, size: 0 };
    const offset = u64(at, `${field}_offset`);
    if (offset < SIZE || offset % INDEX_SIZE !== 0 || offset + count * unit > size) {
      throw corrupt(STRUCTURE, `${field}_offset`, at, `${count * unit} bytes from ${offset} on: outside the bootstrap`);
    }
    return { offset, size: count * unit };
  };
  const inodeTable = region('inode_table', 32, u32(56), INDEX_SIZE);
  if (u32(56) * INODE_HEAD_SIZE > size) {
    throw corrupt(STRUCTURE, 'inode_table_entries', 56, `${u32(56)} inodes do not fit in ${size} bytes`);
  }
  const inodes = u64(24, 'inodes_count');
  if (inodes === 0 || inodes > u32(56)) {
    throw corrupt(STRUCTURE, 'inodes_count', 24, `${inodes} inodes, but ${u32(56)} entries in the inode table`);
  }
  return {
    flags,
    ...algorithms,
    chunkSize: readChunkSize(STRUCTURE, 12, u32(12)),
    hasOwners: (flags & EXPLICIT_UID_GID) !== 0,
    inodeTable,
    prefetchTable: region('prefetch_table', 40, u32(60), INDEX_SIZE),
    blobTable: region('blob_table', 48, u32(64), 1),
    extendedBlobTable: region('extended_blob_table', 72, u32(68), EXTENDED_BLOB_SIZE),
  };
}

function requireVersion(version: number): void {
  if (version === VERSION_5) return;
  const name = version === VERSION_4 ? 'RAFS v4' : `RAFS version 0x${version.toString(16)}`;
  throw unsupported(`a bootstrap in ${name}, which is not served`, 'Convert the image again with `--fs-version 6`.');
}
