import { readSync } from 'node:fs';
import { attachReadyMap, isReady, type ReadyMap, setReady } from '../cache/ready-map.ts';
import { eachEntryFrom, findName, type Load } from '../erofs/find.ts';
import {
  chunkAddressOffset,
  emptyInode,
  flatData,
  type Inode,
  kernelChunkSize,
  LAYOUT_CHUNK_BASED,
  NULL_BLOCK,
  readInode,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../erofs/inode.ts';
import { type Erofs, openErofs } from '../erofs/super-block.ts';
import { readSymlink } from '../erofs/walk.ts';
import { readXattrs, type Xattr } from '../erofs/xattr.ts';
import { corrupt } from '../errors.ts';
import { SECTOR } from '../image/files.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import { type Attributes, type Extent, type Names, ZEROS } from './driver.ts';
import type { TreeData } from './message.ts';

/**
 * One image's tree, answered from its bootstrap: names and attributes, and where the bytes of its files are. For threads
 * that may wait for the local disk. Inode `nid` of the bootstrap is `first + nid`.
 *
 * The bootstrap was checked when the image was opened; the disk may have damaged it since, so nothing is believed: what
 * is wrong throws NymphError `corrupt`.
 */
export interface Tree extends Names {
  readonly first: number;
  /** Attributes of the root directory. */
  root(): Attributes;
  /** True for a tree of files as they stand, each an extent of a blob: those may be read by the kernel in our place. */
  readonly isOfFiles: boolean;
  /** Where `[offset, offset + length)` of a regular file is, as far as the file goes; or the bytes themselves. */
  locate(ino: number, offset: number, length: number): Extent[] | Uint8Array;
}

/** How chunk addresses name a place: inode numbers of the blobs, which bits name one (its position, from 1 on) and which sectors. */
interface Addressing {
  blobs: readonly number[];
  blobMask: number;
  sectorMask: number;
}

/** What is read of a bootstrap in one go; inodes and directories of one place are asked for together. */
const CLUSTER = 64 << 10;
/** Super-block and device table, of up to 254 devices. */
const HEAD = 36 << 10;
const INODE_SIZE = 64;
const ADDRESS_SIZE = 8;
/** By EROFS `file_type`. */
const MODE_OF_FILE_TYPE = [0, 0o100000, 0o040000, 0o020000, 0o060000, 0o010000, 0o140000, 0o120000];

/** @throws NymphError `corrupt`, or what the disk says */
export function openTree({ first, fd, bytes: shared, present, blobs, isOfFiles }: TreeData): Tree {
  const bytes = new Uint8Array(shared);
  const map = attachReadyMap(present);
  load(0, Math.min(HEAD, bytes.length));
  const erofs = openErofs(bytes);
  // RAFS has bits of a chunk's index beside the number of its blob. Files as they stand have no index, and many blobs, in
  // which they may begin within a block.
  const named: Addressing = isOfFiles
    ? { blobs, blobMask: 0xffff, sectorMask: 0xffff }
    : { blobs, blobMask: 0xff, sectorMask: 0 };
  // One for all: each is used up before the next is read.
  const scratch = emptyInode();

  function load(offset: number, length: number): void {
    const end = Math.min(offset + length, bytes.length);
    if (!isReady(map, offset, end - offset)) fill(fd, bytes, map, offset, end);
  }

  function inodeOf(ino: number): Inode {
    const nid = ino - first;
    load(erofs.metaOffset + nid * 32, INODE_SIZE);
    return readInode(erofs, nid, scratch);
  }

  function attributesOf(ino: number): Attributes {
    const { mode, nlink, uid, gid, size, mtime, mtimeNs, union } = inodeOf(ino);
    const type = mode & S_IFMT;
    const isDevice = type !== S_IFREG && type !== S_IFDIR && type !== S_IFLNK;
    return { ino, mode, nlink, uid, gid, rdev: isDevice ? union : 0, size, mtime, mtimeNs };
  }

  function xattrsOf(ino: number): Xattr[] {
    const inode = inodeOf(ino);
    load(inode.xattrOffset, inode.xattrSize);
    return readXattrs(erofs, inode);
  }

  return {
    first,
    isOfFiles,
    root: () => attributesOf(first + erofs.rootNid),
    getattr: attributesOf,
    lookup(parent, name) {
      const directory = inodeOf(parent);
      if ((directory.mode & S_IFMT) !== S_IFDIR) return undefined;
      const nid = findName(erofs, directory, name, load);
      return nid < 0 ? 'never' : attributesOf(first + nid);
    },
    readdir(ino, from, visit) {
      // Visitors look at other inodes meanwhile.
      const directory = { ...inodeOf(ino) };
      if ((directory.mode & S_IFMT) !== S_IFDIR) return false;
      eachEntryFrom(erofs, directory, from, load, (nid, fileType, start, end, next) =>
        visit({ name: bytes.subarray(start, end), ino: first + nid, type: MODE_OF_FILE_TYPE[fileType] ?? 0, next }),
      );
      return true;
    },
    readlink(ino) {
      const inode = inodeOf(ino);
      if ((inode.mode & S_IFMT) !== S_IFLNK) return undefined;
      const { offset, plain, tail } = flatData(erofs, inode);
      load(offset, plain);
      load(tail, inode.size - plain);
      return readSymlink(erofs, inode);
    },
    listxattr(ino) {
      return Buffer.concat(xattrsOf(ino).flatMap(({ name }) => [name, Buffer.alloc(1)]));
    },
    getxattr(ino, name) {
      return xattrsOf(ino).find((xattr) => xattr.name.equals(name))?.value;
    },
    locate(ino, offset, length) {
      const inode = inodeOf(ino);
      const end = Math.min(offset + length, inode.size);
      if ((inode.mode & S_IFMT) !== S_IFREG || end <= offset) return [];
      if (inode.layout === LAYOUT_CHUNK_BASED) return chunksOf(erofs, inode, offset, end, named, load);
      return flatBytes(erofs, inode, offset, end, load);
    },
  };
}

function fill(fd: number, bytes: Uint8Array, map: ReadyMap, offset: number, end: number): void {
  const from = Math.floor(offset / CLUSTER) * CLUSTER;
  const to = Math.min(Math.ceil(end / CLUSTER) * CLUSTER, bytes.length);
  for (let at = from; at < to; ) {
    const length = readSync(fd, bytes, at, to - at, at);
    if (length === 0) throw corrupt('bootstrap', 'size', at, 'the file ends here, too early');
    at += length;
  }
  setReady(map, from, to - from);
}

/** The extents of a chunk based file; the kernel's chunks, which `readImage` found to lead to the same bytes as RAFS's. */
function chunksOf(
  erofs: Erofs,
  inode: Inode,
  offset: number,
  end: number,
  { blobs, blobMask, sectorMask }: Addressing,
  load: Load,
): Extent[] {
  const { view } = erofs;
  const chunkSize = kernelChunkSize(inode);
  const table = chunkAddressOffset(inode);
  const firstChunk = Math.floor(offset / chunkSize);
  const chunks = Math.ceil(end / chunkSize) - firstChunk;
  const start = table + firstChunk * ADDRESS_SIZE;
  if (start + chunks * ADDRESS_SIZE > view.byteLength)
    throw corrupt('EROFS inode', 'size', inode.offset + 8, 'chunk addresses behind the end of the bootstrap');
  load(start, chunks * ADDRESS_SIZE);
  const extents: Extent[] = [];
  let last: Extent | undefined;
  for (let position = offset, at = start; position < end; at += ADDRESS_SIZE) {
    const chunkEnd = Math.min(end, (Math.floor(position / chunkSize) + 1) * chunkSize);
    const block = view.getUint32(at + 4, true);
    const ino = block === NULL_BLOCK ? ZEROS : blobs[(view.getUint16(at + 2, true) & blobMask) - 1];
    if (ino === undefined) throw corrupt('RAFS chunk address', 'device', at + 2, 'there is no such blob');
    const within = (view.getUint16(at, true) & sectorMask) * SECTOR;
    const place = ino === ZEROS ? 0 : block * BLOCK_SIZE + within + (position % chunkSize);
    const length = chunkEnd - position;
    if (last !== undefined && last.ino === ino && last.offset + last.length === place) last.length += length;
    else {
      last = { ino, offset: place, length };
      extents.push(last);
    }
    position = chunkEnd;
  }
  return extents;
}

/** A file without chunks is in the bootstrap itself: whole blocks, then a tail. */
function flatBytes(erofs: Erofs, inode: Inode, offset: number, end: number, load: Load): Uint8Array {
  const { bytes } = erofs;
  const data = flatData(erofs, inode);
  const part = (start: number, length: number): Uint8Array => {
    load(start, length);
    return bytes.subarray(start, start + Math.max(0, length));
  };
  const inBlocks = part(data.offset + offset, Math.min(end, data.plain) - offset);
  const from = Math.max(offset, data.plain);
  return Buffer.concat([inBlocks, part(data.tail + from - data.plain, end - from)]);
}
