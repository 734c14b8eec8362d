/**
 * The kernel's FUSE protocol as far as a read-only file system needs it: offsets, sizes and codes, no logic.
 * Source: include/uapi/linux/fuse.h of Linux 6.12 … 6.18 (protocol 7.41 … 7.45). Little-endian, as all our targets.
 */

export const FUSE_MAJOR = 7;
/** 7.40: FUSE_HAS_RESEND is there (Linux 6.9). */
export const FUSE_MINOR = 40;

export const Op = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  READLINK: 5,
  OPEN: 14,
  READ: 15,
  STATFS: 17,
  RELEASE: 18,
  GETXATTR: 22,
  LISTXATTR: 23,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  ACCESS: 34,
  INTERRUPT: 36,
  DESTROY: 38,
  BATCH_FORGET: 42,
  READDIRPLUS: 44,
} as const;

const NAMES = new Map<number, string>(Object.entries(Op).map(([name, code]) => [code, name.toLowerCase()]));

/** Name of an operation for logs and statistics; `op_<number>` if we do not serve it. */
export function opName(op: number): string {
  return NAMES.get(op) ?? `op_${op}`;
}

/** Requests about one inode's name, attributes or entries: those that a tree answers. */
export function isAboutNames(op: number): boolean {
  switch (op) {
    case Op.LOOKUP:
    case Op.GETATTR:
    case Op.READLINK:
    case Op.READDIR:
    case Op.READDIRPLUS:
    case Op.GETXATTR:
    case Op.LISTXATTR:
      return true;
    default:
      return false;
  }
}

/** Requests that have no answer. */
export function isSilent(op: number): boolean {
  return op === Op.FORGET || op === Op.BATCH_FORGET;
}

export const Init = {
  ASYNC_READ: 1 << 0,
  DO_READDIRPLUS: 1 << 13,
  ASYNC_DIO: 1 << 15,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  POSIX_ACL: 1 << 20,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  INIT_EXT: 1 << 30,
  /** In flags2: bit 39 of the 64. */
  HAS_RESEND_2: 1 << 7,
  /** In flags2: bit 37. */
  PASSTHROUGH_2: 1 << 5,
} as const;

/** struct fuse_in_header, 40 bytes. */
export const InHeader = { LEN: 0, OPCODE: 4, UNIQUE: 8, NODEID: 16, SIZE: 40 } as const;
/** struct fuse_out_header, 16 bytes. */
export const OutHeader = { LEN: 0, ERROR: 4, UNIQUE: 8, SIZE: 16 } as const;
/** struct fuse_read_in, behind the header. */
export const ReadIn = { OFFSET: 8, COUNT: 16, SIZE: 40 } as const;
/** struct fuse_init_in, behind the header. */
export const InitIn = { MAJOR: 0, MINOR: 4, MAX_READAHEAD: 8, FLAGS: 12, FLAGS2: 16, SIZE: 16 } as const;
/** struct fuse_init_out. */
export const InitOut = {
  MAJOR: 0,
  MINOR: 4,
  MAX_READAHEAD: 8,
  FLAGS: 12,
  MAX_BACKGROUND: 16,
  CONGESTION_THRESHOLD: 18,
  MAX_WRITE: 20,
  TIME_GRAN: 24,
  MAX_PAGES: 28,
  FLAGS2: 32,
  MAX_STACK_DEPTH: 36,
  SIZE: 64,
} as const;
/** struct fuse_open_out. */
export const OpenOut = { HANDLE: 0, FLAGS: 8, BACKING: 12, SIZE: 16 } as const;
export const Open = { KEEP_CACHE: 1 << 1, PASSTHROUGH: 1 << 7 } as const;
/** struct fuse_release_in, behind the header. */
export const ReleaseIn = { HANDLE: 0, SIZE: 24 } as const;
/** struct fuse_attr. */
export const Attr = {
  INO: 0,
  SIZE: 8,
  BLOCKS: 16,
  ATIME: 24,
  MTIME: 32,
  CTIME: 40,
  ATIMENSEC: 48,
  MTIMENSEC: 52,
  CTIMENSEC: 56,
  MODE: 60,
  NLINK: 64,
  UID: 68,
  GID: 72,
  RDEV: 76,
  BLKSIZE: 80,
  BYTES: 88,
} as const;
/** struct fuse_attr_out: validity, then fuse_attr. */
export const AttrOut = { VALID: 0, ATTR: 16, SIZE: 104 } as const;
/** struct fuse_entry_out. */
export const EntryOut = { NODEID: 0, GENERATION: 8, ENTRY_VALID: 16, ATTR_VALID: 24, ATTR: 40, SIZE: 128 } as const;
/** struct fuse_dirent, names padded to 8. */
export const Dirent = { INO: 0, OFF: 8, NAMELEN: 16, TYPE: 20, NAME: 24 } as const;
/** struct fuse_kstatfs. */
export const StatfsOut = { FILES: 24, BSIZE: 40, NAMELEN: 44, FRSIZE: 48, SIZE: 80 } as const;

/** FUSE_NOTIFY_INVAL_INODE: an inode number, then a range of pages to drop; -1 for none. */
export const NOTIFY_INVAL_INODE = 2;
export const InvalInode = { INO: 16, OFFSET: 24, LENGTH: 32, SIZE: 40 } as const;
/** FUSE_NOTIFY_INVAL_ENTRY: the directory, the length of the name, and the name with its NUL. */
export const NOTIFY_INVAL_ENTRY = 3;
export const InvalEntry = { PARENT: 16, NAMELEN: 24, NAME: 32 } as const;
/** FUSE_NOTIFY_PRUNE: a count, then inode numbers of 8 bytes (Linux ≥ 6.18). */
export const NOTIFY_PRUNE = 9;
export const Prune = { COUNT: 16, INODES: 32 } as const;
/** FUSE_NOTIFY_RESEND: the kernel repeats every request that was read and not answered (Linux ≥ 6.9). */
export const NOTIFY_RESEND = 7;

/** Largest read that we agree to: 256 pages. */
export const MAX_READ = 1 << 20;
/** Requests are small (we take no writes); the kernel wants room for at least 8 KiB plus `max_write`. */
export const REQUEST_BUFFER = 64 << 10;
