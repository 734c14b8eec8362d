import { constants } from 'node:os';
import type { Attributes, DirectoryEntry, FileSystem } from './driver.ts';
import {
  Attr,
  AttrOut,
  Dirent,
  EntryOut,
  FUSE_MAJOR,
  FUSE_MINOR,
  InHeader,
  Init,
  InitIn,
  InitOut,
  MAX_READ,
  Op,
  StatfsOut,
} from './wire.ts';

/**
 * Decodes each request but READ and INTERRUPT, asks the file system, encodes the answer. Knows nothing of devices.
 * Answers are a buffer (success, maybe empty) or an errno.
 */
export type Answer = Uint8Array | number;

const { ENOENT, ENOSYS, EINVAL, ERANGE, ENODATA, EPROTO } = constants.errno;

/** Images never change: the kernel may remember names and attributes for a day. */
const VALID_SECONDS = 86_400n;
const EMPTY = new Uint8Array(0);

/** What we ask for at INIT; the kernel's own offer limits it. */
const WANTED_FLAGS =
  Init.ASYNC_READ |
  Init.ASYNC_DIO |
  Init.DO_READDIRPLUS |
  Init.READDIRPLUS_AUTO |
  Init.NO_OPEN_SUPPORT |
  Init.NO_OPENDIR_SUPPORT |
  Init.PARALLEL_DIROPS |
  Init.MAX_PAGES |
  Init.CACHE_SYMLINKS |
  Init.INIT_EXT;

/** @param bytes a whole request, header included. */
export function dispatch(fileSystem: FileSystem, bytes: Uint8Array): Answer {
  const request = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const body = request.subarray(InHeader.SIZE);
  const ino = Number(request.readBigUInt64LE(InHeader.NODEID));
  switch (request.readUInt32LE(InHeader.OPCODE)) {
    case Op.INIT:
      return init(body);
    case Op.LOOKUP: {
      const found = fileSystem.lookup(ino, untilNul(body));
      return found === undefined ? ENOENT : entry(found);
    }
    case Op.GETATTR: {
      const found = fileSystem.getattr(ino);
      return found === undefined ? ENOENT : attributes(found);
    }
    case Op.READLINK:
      return fileSystem.readlink?.(ino) ?? EINVAL;
    case Op.READDIR:
      return directory(fileSystem, ino, body, false);
    case Op.READDIRPLUS:
      return directory(fileSystem, ino, body, true);
    case Op.STATFS:
      return statfs();
    case Op.LISTXATTR:
      return fileSystem.listxattr === undefined ? ENOSYS : sized(body, fileSystem.listxattr(ino) ?? EMPTY);
    case Op.GETXATTR: {
      if (fileSystem.getxattr === undefined) return ENOSYS;
      const value = body.length > 8 ? fileSystem.getxattr(ino, untilNul(body.subarray(8))) : undefined;
      return value === undefined ? ENODATA : sized(body, value);
    }
    case Op.DESTROY:
    case Op.RELEASE:
    case Op.RELEASEDIR:
    case Op.FLUSH:
      return EMPTY;
    default:
      // OPEN and OPENDIR too: ENOSYS tells the kernel to open by itself from now on.
      return ENOSYS;
  }
}

function init(body: Buffer): Answer {
  if (body.length < InitIn.SIZE || body.readUInt32LE(InitIn.MAJOR) !== FUSE_MAJOR) return EPROTO;
  const offered = body.readUInt32LE(InitIn.FLAGS);
  const out = Buffer.alloc(InitOut.SIZE);
  out.writeUInt32LE(FUSE_MAJOR, InitOut.MAJOR);
  out.writeUInt32LE(FUSE_MINOR, InitOut.MINOR);
  out.writeUInt32LE(MAX_READ, InitOut.MAX_READAHEAD);
  out.writeUInt32LE((offered & WANTED_FLAGS) >>> 0, InitOut.FLAGS);
  out.writeUInt32LE(Init.HAS_RESEND_2, InitOut.FLAGS2);
  // Background requests are readahead and direct I/O of all mounts together: the default of 12 starves them.
  out.writeUInt16LE(512, InitOut.MAX_BACKGROUND);
  out.writeUInt16LE(384, InitOut.CONGESTION_THRESHOLD);
  out.writeUInt32LE(4096, InitOut.MAX_WRITE);
  out.writeUInt32LE(1, InitOut.TIME_GRAN);
  out.writeUInt16LE(MAX_READ / 4096, InitOut.MAX_PAGES);
  return out;
}

function untilNul(body: Buffer): Uint8Array {
  const end = body.indexOf(0);
  return end < 0 ? body : body.subarray(0, end);
}

function putAttributes(out: Buffer, at: number, node: Attributes): void {
  out.writeBigUInt64LE(BigInt(node.ino), at + Attr.INO);
  out.writeBigUInt64LE(BigInt(node.size), at + Attr.SIZE);
  out.writeBigUInt64LE(BigInt(Math.ceil(node.size / 512)), at + Attr.BLOCKS);
  for (const time of [Attr.ATIME, Attr.MTIME, Attr.CTIME]) out.writeBigInt64LE(BigInt(node.mtime), at + time);
  for (const part of [Attr.ATIMENSEC, Attr.MTIMENSEC, Attr.CTIMENSEC]) out.writeUInt32LE(node.mtimeNs, at + part);
  out.writeUInt32LE(node.mode, at + Attr.MODE);
  out.writeUInt32LE(node.nlink, at + Attr.NLINK);
  out.writeUInt32LE(node.uid, at + Attr.UID);
  out.writeUInt32LE(node.gid, at + Attr.GID);
  out.writeUInt32LE(node.rdev, at + Attr.RDEV);
  out.writeUInt32LE(4096, at + Attr.BLKSIZE);
}

function putEntry(out: Buffer, at: number, node: Attributes): void {
  out.writeBigUInt64LE(BigInt(node.ino), at + EntryOut.NODEID);
  out.writeBigUInt64LE(VALID_SECONDS, at + EntryOut.ENTRY_VALID);
  out.writeBigUInt64LE(VALID_SECONDS, at + EntryOut.ATTR_VALID);
  putAttributes(out, at + EntryOut.ATTR, node);
}

function entry(node: Attributes): Uint8Array {
  const out = Buffer.alloc(EntryOut.SIZE);
  putEntry(out, 0, node);
  return out;
}

function attributes(node: Attributes): Uint8Array {
  const out = Buffer.alloc(AttrOut.SIZE);
  out.writeBigUInt64LE(VALID_SECONDS, AttrOut.VALID);
  putAttributes(out, AttrOut.ATTR, node);
  return out;
}

/** READDIR and READDIRPLUS: entries from index `offset` on, as many as fit. `.` and `..` are left to the kernel's dcache. */
function directory(fileSystem: FileSystem, ino: number, body: Buffer, plus: boolean): Answer {
  if (body.length < 20) return EINVAL;
  const start = Number(body.readBigUInt64LE(8));
  const room = Math.min(body.readUInt32LE(16), MAX_READ);
  const entries = fileSystem.readdir(ino);
  if (entries === undefined) return ENOENT;
  const head = plus ? EntryOut.SIZE : 0;
  const out = Buffer.alloc(room);
  let used = 0;
  for (let index = start; index < entries.length; index++) {
    const item: DirectoryEntry = entries[index];
    const size = head + ((Dirent.NAME + item.name.length + 7) & ~7);
    if (used + size > room) break;
    const node = plus ? fileSystem.getattr(item.ino) : undefined;
    // An all-zero entry says "no attributes with this one".
    if (node !== undefined) putEntry(out, used, node);
    out.writeBigUInt64LE(BigInt(item.ino), used + head + Dirent.INO);
    out.writeBigUInt64LE(BigInt(index + 1), used + head + Dirent.OFF);
    out.writeUInt32LE(item.name.length, used + head + Dirent.NAMELEN);
    out.writeUInt32LE(item.type >>> 12, used + head + Dirent.TYPE);
    out.set(item.name, used + head + Dirent.NAME);
    used += size;
  }
  return out.subarray(0, used);
}

function statfs(): Uint8Array {
  const out = Buffer.alloc(StatfsOut.SIZE);
  out.writeUInt32LE(4096, StatfsOut.BSIZE);
  out.writeUInt32LE(4096, StatfsOut.FRSIZE);
  out.writeUInt32LE(255, StatfsOut.NAMELEN);
  return out;
}

/** GETXATTR and LISTXATTR: size 0 asks how much room is needed. */
function sized(body: Buffer, value: Uint8Array): Answer {
  if (body.length < 8) return EINVAL;
  const room = body.readUInt32LE(0);
  if (room !== 0) return value.length > room ? ERANGE : value;
  const out = Buffer.alloc(8);
  out.writeUInt32LE(value.length, 0);
  return out;
}
