import { readU64 } from '../../../erofs/fields.ts';
import { FILE_TYPE_OF_MODE, S_IFBLK, S_IFCHR, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../../erofs/inode.ts';
import { corrupt, type NymphError } from '../../../errors.ts';
import { unsupported } from '../flags.ts';
import { CHUNK_RECORD_SIZE } from '../super-block.ts';

/** One inode record. Offsets are bytes in the bootstrap. */
export interface InodeV5 {
  /** Position in the inode table, from 1. */
  index: number;
  /** Where the record is, and where it ends. It starts with the digest, 32 bytes. */
  at: number;
  end: number;
  /** The same for all names of an inode. */
  ino: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  size: number;
  rdev: number;
  /** Seconds since 1970, may be negative, and nanoseconds. */
  mtime: number;
  mtimeNs: number;
  /** First child of a directory, as a position in the inode table. */
  childIndex: number;
  /** Children of a directory, chunks of a regular file. */
  childCount: number;
  nameAt: number;
  nameSize: number;
  /** Target of a symlink. */
  targetAt: number;
  targetSize: number;
  /** Pairs of extended attributes. */
  xattrsAt: number;
  xattrsSize: number;
  /** Chunk records of a regular file. */
  chunksAt: number;
}

/** The fixed part of a record; the name follows. */
export const INODE_HEAD_SIZE = 128;
const STRUCTURE = 'RAFS v5 inode';
const NAME_MAX = 255;
const SYMLINK_MAX = 4096;
const MODE_MAX = 0xffff;
const FLAG_SYMLINK = 0x1;
const FLAG_HARD_LINK = 0x2;
const FLAG_XATTR = 0x4;
const FLAG_HAS_HOLE = 0x8;
const FLAGS = FLAG_SYMLINK | FLAG_HARD_LINK | FLAG_XATTR | FLAG_HAS_HOLE;

/**
 * Reads the record of table entry `index` and checks what it says by itself. Children, names, attributes, chunks and
 * the digest are for others to check.
 * @param at byte offset of the record, a multiple of 8
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readInode(view: DataView, index: number, at: number): InodeV5 {
  const fail = (field: string, offset: number, why: string): NymphError =>
    corrupt(STRUCTURE, field, at + offset, `${why} (inode ${index})`);
  if (at + INODE_HEAD_SIZE > view.byteLength) throw fail('offset', 0, 'the record is outside the bootstrap');
  const u16 = (offset: number) => view.getUint16(at + offset, true);
  const u32 = (offset: number) => view.getUint32(at + offset, true);
  const u64 = (offset: number, field: string) => readU64(view, at + offset, STRUCTURE, field);
  const mode = u32(60);
  // Owners came later: in records without them this is the upper half of the size.
  if (mode === 0 && index === 1)
    throw unsupported('a RAFS v5 bootstrap of the first builders, whose inodes have no owners', 'Convert it again.');
  if (mode > MODE_MAX || FILE_TYPE_OF_MODE[mode >> 12] === 0) {
    throw fail('mode', 60, `0o${mode.toString(8)} is no type of file`);
  }
  const flags = u64(80, 'flags');
  if (flags > FLAGS) {
    throw unsupported(`${STRUCTURE} ${index}: flags 0x${flags.toString(16)} at byte ${at + 80} are not known`);
  }
  const type = mode & S_IFMT;
  if (((flags & FLAG_SYMLINK) !== 0) !== (type === S_IFLNK)) throw fail('flags', 80, 'symlink or not?');
  const [nameSize, targetSize] = [u16(100), u16(102)];
  if ((nameSize === 0 && index !== 1) || nameSize > NAME_MAX)
    throw fail('name_size', 100, `a name of ${nameSize} bytes`);
  if (type === S_IFLNK ? targetSize === 0 || targetSize > SYMLINK_MAX : targetSize !== 0) {
    throw fail('symlink_size', 102, `a target of ${targetSize} bytes`);
  }
  const childCount = u32(96);
  if (childCount !== 0 && type !== S_IFDIR && type !== S_IFREG) throw fail('child_count', 96, `${childCount} children`);
  const mtimeNs = u32(108);
  if (mtimeNs >= 1e9) throw fail('mtime_nsec', 108, 'a second or more');
  const mtime = view.getInt32(at + 116, true) * 0x1_0000_0000 + u32(112);
  if (!Number.isSafeInteger(mtime)) throw fail('mtime', 112, 'beyond 2^53 seconds');
  if (u32(88) === 0) throw fail('nlink', 88, 'no links, though a directory names it');

  const nameAt = at + INODE_HEAD_SIZE;
  const targetAt = nameAt + padded(nameSize);
  let end = targetAt + padded(targetSize);
  let [xattrsAt, xattrsSize] = [0, 0];
  if ((flags & FLAG_XATTR) !== 0) {
    if (end + 8 > view.byteLength) throw fail('xattr', 80, 'the attributes are outside the bootstrap');
    xattrsAt = end + 8;
    xattrsSize = readU64(view, end, STRUCTURE, 'xattr size');
    end = xattrsAt + padded(xattrsSize);
  }
  const chunksAt = end;
  if (type === S_IFREG) end += childCount * CHUNK_RECORD_SIZE;
  if (end > view.byteLength) throw fail('child_count', 96, `${end - at} bytes of this inode do not fit the bootstrap`);
  return {
    index,
    at,
    end,
    ino: u64(40, 'ino'),
    mode,
    uid: u32(48),
    gid: u32(52),
    nlink: u32(88),
    size: u64(64, 'size'),
    rdev: type === S_IFCHR || type === S_IFBLK ? u32(104) : 0,
    mtime,
    mtimeNs,
    childIndex: u32(92),
    childCount,
    nameAt,
    nameSize,
    targetAt,
    targetSize,
    xattrsAt,
    xattrsSize,
    chunksAt,
  };
}

function padded(size: number): number {
  return Math.ceil(size / 8) * 8;
}
