import { corrupt } from '../errors.ts';
import { eachEntry } from './directory.ts';
import {
  chunkAddressOffset,
  emptyInode,
  FILE_TYPE_OF_MODE,
  flatData,
  INODE_SLOT_SIZE,
  type Inode,
  kernelChunkSize,
  LAYOUT_CHUNK_BASED,
  readInode,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from './inode.ts';
import type { Erofs } from './super-block.ts';
import { checkXattrs } from './xattr.ts';

/** One name in the tree. The same object each time: copy what you keep. */
export interface Visit {
  readonly inode: Inode;
  /** False for further names (hard links) of an inode that was visited before. */
  first: boolean;
  /** Number of the directory that holds the name, in the order of visits; -1 for the root. */
  parent: number;
  /** Number of this directory; -1 for other files. The root has 0. */
  directory: number;
  /** The name: byte offsets in the bootstrap. Empty for the root. */
  nameStart: number;
  nameEnd: number;
  /** The full path from `/` on, as bytes. */
  path(): Buffer;
}

const SYMLINK_MAX = 4096;
const CHUNK_ADDRESS_SIZE = 8;
const DOT = 0x2e;

/** Directories that were found, by number. */
interface Directories {
  nid: number[];
  parent: number[];
  nameStart: number[];
  nameEnd: number[];
}

/**
 * Visits every name that can be reached from the root, the root first, each directory before what is in it, directory
 * by directory. All that the kernel would trust is checked before an inode is visited: directories (names, order, `.`
 * and `..`, types, no directory twice), symlinks, attributes, and where data is. Chunk addresses are checked by the
 * format that gives them a meaning; here only that they are inside the bootstrap.
 *
 * Work and memory are bounded by the size of the bootstrap: inodes that together claim more bytes than it has are
 * refused.
 * @throws NymphError `corrupt` or `unsupported`, and whatever `visitor` throws
 */
export function walkTree(erofs: Erofs, visitor: (visit: Visit) => void): void {
  const { bytes } = erofs;
  const found: Directories = { nid: [], parent: [], nameStart: [], nameEnd: [] };
  const seen = new Uint8Array(Math.ceil((bytes.length - erofs.metaOffset) / INODE_SLOT_SIZE / 8));
  const visit: Visit = {
    inode: emptyInode(),
    first: true,
    parent: -1,
    directory: -1,
    nameStart: 0,
    nameEnd: 0,
    path: () => pathOf(bytes, found, visit),
  };
  let claimed = 0;

  function enter(nid: number, parent: number, nameStart: number, nameEnd: number): number {
    const inode = readInode(erofs, nid, visit.inode);
    const isDirectory = (inode.mode & S_IFMT) === S_IFDIR;
    visit.first = (seen[nid >>> 3] & (1 << (nid & 7))) === 0;
    visit.parent = parent;
    visit.directory = isDirectory ? found.nid.length : -1;
    visit.nameStart = nameStart;
    visit.nameEnd = nameEnd;
    if (visit.first) {
      seen[nid >>> 3] |= 1 << (nid & 7);
      claimed += checkContent(erofs, inode);
      if (claimed > bytes.length) {
        throw corrupt('EROFS inode', 'size', inode.offset, 'inodes claim more bytes than the bootstrap has');
      }
    } else if (isDirectory) {
      throw corrupt('EROFS directory', 'nid', nameStart, `directory ${nid} has two names`);
    }
    if (isDirectory) {
      found.nid.push(nid);
      found.parent.push(parent);
      found.nameStart.push(nameStart);
      found.nameEnd.push(nameEnd);
    }
    visitor(visit);
    return inode.mode;
  }

  if ((enter(erofs.rootNid, -1, 0, 0) & S_IFMT) !== S_IFDIR) {
    throw corrupt('EROFS super-block', 'root_nid', 1024 + 14, 'the root is no directory');
  }
  const inode = emptyInode();
  for (let directory = 0; directory < found.nid.length; directory++) {
    readInode(erofs, found.nid[directory], inode);
    const parentNid = found.nid[Math.max(found.parent[directory], 0)];
    let dots = 0;
    eachEntry(erofs, inode, (nid, fileType, nameStart, nameEnd) => {
      const dotCount = countDots(bytes, nameStart, nameEnd);
      if (dotCount > 0) {
        dots++;
        const expected = dotCount === 1 ? inode.nid : parentNid;
        if (nid !== expected || fileType !== FILE_TYPE_OF_MODE[S_IFDIR >> 12]) {
          throw corrupt(
            'EROFS directory',
            dotCount === 1 ? '"."' : '".."',
            nameStart,
            `leads to ${nid}, not ${expected}`,
          );
        }
        return;
      }
      if (FILE_TYPE_OF_MODE[enter(nid, directory, nameStart, nameEnd) >> 12] !== fileType) {
        throw corrupt('EROFS directory', 'file_type', nameStart, `${fileType}, but the inode is of another type`);
      }
    });
    if (dots !== 2) throw corrupt('EROFS directory', 'name', inode.offset, '"." or ".." is missing');
  }
}

/** Checks what is behind an inode, and returns the bytes that it claims of the bootstrap. */
function checkContent(erofs: Erofs, inode: Inode): number {
  checkXattrs(erofs, inode);
  const head = inode.xattrOffset + inode.xattrSize - inode.offset;
  switch (inode.mode & S_IFMT) {
    case S_IFREG:
      if (inode.layout === LAYOUT_CHUNK_BASED) return head + checkChunkAddresses(erofs, inode);
      flatData(erofs, inode);
      return head;
    case S_IFDIR:
      flatData(erofs, inode);
      return head + inode.size;
    case S_IFLNK:
      readSymlink(erofs, inode);
      return head + inode.size;
    default:
      return head;
  }
}

/** The kernel finds as many addresses as it counts chunks; all must be inside the bootstrap. */
function checkChunkAddresses(erofs: Erofs, inode: Inode): number {
  const count = Math.ceil(inode.size / kernelChunkSize(inode));
  if (chunkAddressOffset(inode) + count * CHUNK_ADDRESS_SIZE > erofs.bytes.length) {
    throw corrupt('EROFS inode', 'size', inode.offset + 8, `${count} chunk addresses do not fit in the bootstrap`);
  }
  return count * CHUNK_ADDRESS_SIZE;
}

/**
 * Target of a symlink, as bytes.
 * @throws NymphError `corrupt` if it is empty, longer than 4096 bytes, contains NUL or is outside the bootstrap
 */
export function readSymlink(erofs: Erofs, inode: Inode): Buffer {
  const { size } = inode;
  if (size === 0 || size > SYMLINK_MAX) {
    throw corrupt('EROFS inode', 'size', inode.offset + 8, `a symlink of ${size} bytes`);
  }
  const { offset, plain, tail } = flatData(erofs, inode);
  const target = Buffer.concat([
    erofs.bytes.subarray(offset, offset + plain),
    erofs.bytes.subarray(tail, tail + size - plain),
  ]);
  if (target.includes(0)) throw corrupt('EROFS symlink', 'target', inode.offset, 'contains NUL');
  return target;
}

/** 1 for `.`, 2 for `..`, 0 for every other name. */
function countDots(bytes: Uint8Array, start: number, end: number): number {
  const length = end - start;
  if (length > 2 || bytes[start] !== DOT || bytes[end - 1] !== DOT) return 0;
  return length;
}

function pathOf(bytes: Uint8Array, found: Directories, visit: Visit): Buffer {
  const parts: Uint8Array[] = [];
  const slash = Buffer.from('/');
  if (visit.parent >= 0) parts.push(bytes.subarray(visit.nameStart, visit.nameEnd), slash);
  for (let i = visit.parent; i > 0; i = found.parent[i]) {
    parts.push(bytes.subarray(found.nameStart[i], found.nameEnd[i]), slash);
  }
  return parts.length === 0 ? slash : Buffer.concat(parts.reverse());
}
