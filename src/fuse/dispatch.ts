import { constants } from 'node:os';
import type { Attributes, Names } from './driver.ts';
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
const VALID_SECONDS = 86_400;
const EMPTY = new Uint8Array(0);

/**
 * What we ask for at INIT; the kernel's own offer limits it. READDIRPLUS always, not "auto": programs like find read a
 * directory whole before they ask for attributes, and "auto" would have them looked up one by one.
 */
const WANTED_FLAGS =
  Init.ASYNC_READ |
  Init.ASYNC_DIO |
  Init.DO_READDIRPLUS |
  Init.NO_OPEN_SUPPORT |
  Init.NO_OPENDIR_SUPPORT |
  Init.PARALLEL_DIROPS |
  Init.POSIX_ACL |
  Init.MAX_PAGES |
  Init.CACHE_SYMLINKS |
  Init.INIT_EXT;

/** @param bytes a whole request, header included. */
export function dispatch(names: Names, bytes: Uint8Array): Answer {
  const request = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const body = request.subarray(InHeader.SIZE);
  const ino = request.readUIntLE(InHeader.NODEID, 6);
  switch (request.readUInt32LE(InHeader.OPCODE)) {
    case Op.INIT:
      return init(body);
    case Op.LOOKUP: {
      const found = names.lookup(ino, untilNul(body));
      if (found === undefined) return ENOENT;
      return found === 'never' ? NO_ENTRY : entry(found);
    }
    case Op.GETATTR: {
      const found = names.getattr(ino);
      return found === undefined ? ENOENT : attributes(found);
    }
    case Op.READLINK:
      return names.readlink?.(ino) ?? EINVAL;
    case Op.READDIR:
      return directory(names, ino, body, false);
    case Op.READDIRPLUS:
      return directory(names, ino, body, true);
    case Op.STATFS:
      return statfs();
    case Op.LISTXATTR:
      return names.listxattr === undefined ? ENOSYS : sized(body, names.listxattr(ino) ?? EMPTY);
    case Op.GETXATTR: {
      if (names.getxattr === undefined) return ENOSYS;
      const value = body.length > 8 ? names.getxattr(ino, untilNul(body.subarray(8))) : undefined;
      return value === undefined ? ENODATA : sized(body, value);
    }
    case Op.DESTROY:
    case Op.RELEASE:
    case Op.RELEASEDIR:
      return EMPTY;
    default:
      // OPENDIR and FLUSH too: ENOSYS tells the kernel to open and close by itself from now on. OPEN: see the driver.
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
  out.writeUInt32LE(Init.HAS_RESEND_2 | Init.PASSTHROUGH_2, InitOut.FLAGS2);
  // Files that are read in our place lie on a plain file system; above us there is room for one overlay.
  out.writeUInt32LE(1, InitOut.MAX_STACK_DEPTH);
  // Background requests are readahead and direct I/O of all mounts together: the default of 12 starves them.
  out.writeUInt16LE(512, InitOut.MAX_BACKGROUND);
  out.writeUInt16LE(384, InitOut.CONGESTION_THRESHOLD);
  out.writeUInt32LE(4096, InitOut.MAX_WRITE);
  out.writeUInt32LE(1, InitOut.TIME_GRAN);
  out.writeUInt16LE(MAX_READ / 4096, InitOut.MAX_PAGES);
  return out;
}

/** An answer that the kernel remembers: the name does not exist. */
const NO_ENTRY = Buffer.alloc(EntryOut.SIZE);
putU64(NO_ENTRY, EntryOut.ENTRY_VALID, VALID_SECONDS);

function untilNul(body: Buffer): Uint8Array {
  const end = body.indexOf(0);
  return end < 0 ? body : body.subarray(0, end);
}

/** Two halves: BigInts take ten times as long. @param value an integer, down to -2^53 */
function putU64(out: Buffer, at: number, value: number): void {
  out.writeInt32LE(value | 0, at);
  out.writeInt32LE(Math.floor(value / 0x1_0000_0000) | 0, at + 4);
}

function putAttributes(out: Buffer, at: number, node: Attributes): void {
  putU64(out, at + Attr.INO, node.ino);
  putU64(out, at + Attr.SIZE, node.size);
  putU64(out, at + Attr.BLOCKS, Math.ceil(node.size / 512));
  for (const time of [Attr.ATIME, Attr.MTIME, Attr.CTIME]) putU64(out, at + time, node.mtime);
  for (const part of [Attr.ATIMENSEC, Attr.MTIMENSEC, Attr.CTIMENSEC]) out.writeUInt32LE(node.mtimeNs, at + part);
  out.writeUInt32LE(node.mode, at + Attr.MODE);
  out.writeUInt32LE(node.nlink, at + Attr.NLINK);
  out.writeUInt32LE(node.uid, at + Attr.UID);
  out.writeUInt32LE(node.gid, at + Attr.GID);
  out.writeUInt32LE(node.rdev, at + Attr.RDEV);
  out.writeUInt32LE(4096, at + Attr.BLKSIZE);
}

function putEntry(out: Buffer, at: number, node: Attributes): void {
  putU64(out, at + EntryOut.NODEID, node.ino);
  putU64(out, at + EntryOut.ENTRY_VALID, VALID_SECONDS);
  putU64(out, at + EntryOut.ATTR_VALID, VALID_SECONDS);
  putAttributes(out, at + EntryOut.ATTR, node);
}

function entry(node: Attributes): Uint8Array {
  const out = Buffer.alloc(EntryOut.SIZE);
  putEntry(out, 0, node);
  return out;
}

function attributes(node: Attributes): Uint8Array {
  const out = Buffer.alloc(AttrOut.SIZE);
  putU64(out, AttrOut.VALID, VALID_SECONDS);
  putAttributes(out, AttrOut.ATTR, node);
  return out;
}

/** READDIR and READDIRPLUS: entries from where an earlier answer ended, as many as fit. */
function directory(names: Names, ino: number, body: Buffer, plus: boolean): Answer {
  if (body.length < 20) return EINVAL;
  const room = Math.min(body.readUInt32LE(16), MAX_READ);
  const head = plus ? EntryOut.SIZE : 0;
  const out = Buffer.alloc(room);
  let used = 0;
  const found = names.readdir(ino, body.readUIntLE(8, 6), (item) => {
    const size = head + ((Dirent.NAME + item.name.length + 7) & ~7);
    if (used + size > room) return false;
    // An all-zero entry says "no attributes with this one", which is what the kernel expects for "." and "..".
    const node = plus && !isDots(item.name) ? names.getattr(item.ino) : undefined;
    if (node !== undefined) putEntry(out, used, node);
    putU64(out, used + head + Dirent.INO, item.ino);
    putU64(out, used + head + Dirent.OFF, item.next);
    out.writeUInt32LE(item.name.length, used + head + Dirent.NAMELEN);
    out.writeUInt32LE(item.type >>> 12, used + head + Dirent.TYPE);
    out.set(item.name, used + head + Dirent.NAME);
    used += size;
    return true;
  });
  return found ? out.subarray(0, used) : ENOENT;
}

function isDots(name: Uint8Array): boolean {
  return name.length <= 2 && name[0] === 0x2e && name[name.length - 1] === 0x2e;
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
