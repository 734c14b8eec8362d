import { corrupt, NymphError } from '../errors.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import { readU64 } from './fields.ts';
import type { Erofs } from './super-block.ts';

/** One inode. Reused by the walk: copy what you keep. */
export interface Inode {
  nid: number;
  /** Byte offset of the inode in the bootstrap. */
  offset: number;
  layout: number;
  /** Type and permission bits, as in stat(2). */
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  /** Seconds since 1970, may be negative, and nanoseconds. */
  mtime: number;
  mtimeNs: number;
  /** The union `u`: block address of flat data, device number, or chunk format. */
  union: number;
  /** Bytes of the xattr area, which starts at `xattrOffset`. */
  xattrSize: number;
  xattrOffset: number;
}

/** Where one inode's flat data is: whole blocks, then at most one tail behind the inode. Byte offsets and sizes. */
export interface FlatData {
  offset: number;
  /** Bytes at `offset`; the other `size - plain` are at `tail`. */
  plain: number;
  tail: number;
}

export const LAYOUT_FLAT_PLAIN = 0;
export const LAYOUT_FLAT_INLINE = 2;
export const LAYOUT_CHUNK_BASED = 4;

export const S_IFMT = 0o170000;
export const S_IFIFO = 0o010000;
export const S_IFCHR = 0o020000;
export const S_IFDIR = 0o040000;
export const S_IFBLK = 0o060000;
export const S_IFREG = 0o100000;
export const S_IFLNK = 0o120000;
export const S_IFSOCK = 0o140000;

/** EROFS `file_type` of a directory entry for each `mode >> 12`; 0 where no such type exists. */
export const FILE_TYPE_OF_MODE: readonly number[] = [0, 5, 3, 0, 2, 0, 4, 0, 1, 0, 7, 0, 6, 0, 0, 0];

const STRUCTURE = 'EROFS inode';
export const INODE_SLOT_SIZE = 32;
const COMPACT_SIZE = 32;
const EXTENDED_SIZE = 64;
const FORMAT_EXTENDED = 0x1;
/** Bits above version and layout change the meaning of other fields from Linux 6.15 on. */
const FORMAT_MASK = 0xf;
const XATTR_HEADER_SIZE = 12;
const CHUNK_FORMAT_BLOCK_BITS = 0x1f;
const CHUNK_FORMAT_INDEXES = 0x20;
/** Linux `EROFS_NULL_ADDR`, the block of a chunk that is not there: zeros. */
export const NULL_BLOCK = 0xffffffff;

export function emptyInode(): Inode {
  return {
    nid: 0,
    offset: 0,
    layout: 0,
    mode: 0,
    nlink: 0,
    uid: 0,
    gid: 0,
    size: 0,
    mtime: 0,
    mtimeNs: 0,
    union: 0,
    xattrSize: 0,
    xattrOffset: 0,
  };
}

/**
 * Reads inode `nid` and checks every field that the kernel's `erofs_read_inode` uses.
 * @param into filled and returned
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readInode(erofs: Erofs, nid: number, into: Inode = emptyInode()): Inode {
  const { view, bytes } = erofs;
  const at = erofs.metaOffset + nid * INODE_SLOT_SIZE;
  if (at + COMPACT_SIZE > bytes.length) throw corrupt(STRUCTURE, 'nid', at, `inode ${nid} is outside the bootstrap`);
  const format = view.getUint16(at, true);
  if ((format & ~FORMAT_MASK) !== 0) {
    throw new NymphError('unsupported', `${STRUCTURE}: format 0x${format.toString(16)} at byte ${at} is not known`);
  }
  const extended = (format & FORMAT_EXTENDED) !== 0;
  const headSize = extended ? EXTENDED_SIZE : COMPACT_SIZE;
  if (at + headSize > bytes.length) throw corrupt(STRUCTURE, 'nid', at, `inode ${nid} is outside the bootstrap`);
  const xattrCount = view.getUint16(at + 2, true);
  into.nid = nid;
  into.offset = at;
  into.layout = format >> 1;
  into.mode = view.getUint16(at + 4, true);
  into.union = view.getUint32(at + 16, true);
  into.xattrOffset = at + headSize;
  into.xattrSize = xattrCount === 0 ? 0 : XATTR_HEADER_SIZE + 4 * (xattrCount - 1);
  if (extended) readExtended(view, at, into);
  else readCompact(erofs, at, into);
  if (into.xattrOffset + into.xattrSize > bytes.length) {
    throw corrupt(STRUCTURE, 'xattr_icount', at + 2, 'the attributes reach behind the bootstrap');
  }
  if (into.nlink === 0) throw corrupt(STRUCTURE, 'nlink', at, 'no links, though a directory names it');
  checkKind(into);
  return into;
}

function readExtended(view: DataView, at: number, into: Inode): void {
  // From Linux 6.15 on these are the upper bits of the block address.
  if (view.getUint16(at + 6, true) !== 0) throw corrupt(STRUCTURE, 'reserved', at + 6, 'not 0');
  into.size = readU64(view, at + 8, STRUCTURE, 'size');
  into.uid = view.getUint32(at + 24, true);
  into.gid = view.getUint32(at + 28, true);
  into.mtime = view.getInt32(at + 36, true) * 0x1_0000_0000 + view.getUint32(at + 32, true);
  into.mtimeNs = view.getUint32(at + 40, true);
  into.nlink = view.getUint32(at + 44, true);
  if (into.mtimeNs >= 1e9) throw corrupt(STRUCTURE, 'mtime_nsec', at + 40, 'a second or more');
}

function readCompact(erofs: Erofs, at: number, into: Inode): void {
  const { view } = erofs;
  // A time relative to the build from Linux 6.15 on, and unused before: only 0 means the same to all.
  if (view.getUint32(at + 12, true) !== 0) throw corrupt(STRUCTURE, 'reserved', at + 12, 'not 0');
  into.size = view.getUint32(at + 8, true);
  into.uid = view.getUint16(at + 24, true);
  into.gid = view.getUint16(at + 26, true);
  into.mtime = erofs.buildTime;
  into.mtimeNs = erofs.buildTimeNs;
  into.nlink = view.getUint16(at + 6, true);
}

function checkKind(inode: Inode): void {
  const { mode, layout, offset } = inode;
  if (FILE_TYPE_OF_MODE[mode >> 12] === 0) {
    throw corrupt(STRUCTURE, 'mode', offset + 4, `0o${mode.toString(8)} is no type of file`);
  }
  if (layout === LAYOUT_CHUNK_BASED) {
    if ((mode & S_IFMT) !== S_IFREG) throw corrupt(STRUCTURE, 'format', offset, 'chunks, but no regular file');
    if ((inode.union & ~CHUNK_FORMAT_BLOCK_BITS) !== CHUNK_FORMAT_INDEXES) {
      const shown = `0x${inode.union.toString(16)}`;
      throw new NymphError('unsupported', `${STRUCTURE}: chunk format ${shown} at byte ${offset + 16} is not known`);
    }
  } else if (layout !== LAYOUT_FLAT_PLAIN && layout !== LAYOUT_FLAT_INLINE) {
    throw new NymphError('unsupported', `${STRUCTURE}: data layout ${layout} at byte ${offset} (EROFS compression?)`);
  }
}

/** Bytes of one chunk as the kernel counts them, for chunk based inodes: 4 KiB × 2^0…31. */
export function kernelChunkSize(inode: Inode): number {
  return BLOCK_SIZE * 2 ** (inode.union & CHUNK_FORMAT_BLOCK_BITS);
}

/** Byte offset of the chunk addresses (8 bytes each) of a chunk based inode. */
export function chunkAddressOffset(inode: Inode): number {
  return Math.ceil((inode.xattrOffset + inode.xattrSize) / 8) * 8;
}

/**
 * Where the data of a flat inode is, inside the bootstrap.
 * @throws NymphError `corrupt` where it reaches out of the bootstrap, or the tail out of its block
 */
export function flatData(erofs: Erofs, inode: Inode): FlatData {
  const { size, offset } = inode;
  const inline = inode.layout === LAYOUT_FLAT_INLINE;
  const tailSize = inline ? size % BLOCK_SIZE : 0;
  const plain = size - tailSize;
  // The kernel looks for the last block behind the inode even if it is whole, where it cannot fit.
  if (inline && tailSize === 0 && size > 0) throw corrupt(STRUCTURE, 'size', offset + 8, 'no tail, though inline');
  const start = inode.union * BLOCK_SIZE;
  if (plain > 0 && start + plain > erofs.bytes.length) {
    throw corrupt(STRUCTURE, 'raw_blkaddr', offset + 16, `${plain} bytes from ${start} on are outside the bootstrap`);
  }
  const tail = inode.xattrOffset + inode.xattrSize;
  if (tail + tailSize > erofs.bytes.length || (tail % BLOCK_SIZE) + tailSize > BLOCK_SIZE) {
    throw corrupt(STRUCTURE, 'size', offset + 8, 'the inline tail crosses the end of its block');
  }
  return { offset: start, plain, tail };
}
