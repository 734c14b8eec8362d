import { DIGEST_SIZE } from '../../../codec/digest.ts';
import { S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../../../erofs/inode.ts';
import type { Child, ErofsNode } from '../../../erofs/write-inodes.ts';
import { canHoldXattr } from '../../../erofs/write-xattr.ts';
import type { Xattr } from '../../../erofs/xattr.ts';
import { corrupt } from '../../../errors.ts';
import { encodeChunks } from '../chunk-addresses.ts';
import { unsupported } from '../flags.ts';
import { createDigestCheck } from './digests.ts';
import { INODE_HEAD_SIZE, type InodeV5, readInode } from './inode.ts';
import { INDEX_SIZE, type SuperBlock } from './super-block.ts';
import { readXattrs } from './xattrs.ts';

/** A regular file that has chunks. */
export interface FileV5 {
  node: ErofsNode;
  /** Position in the inode table. */
  index: number;
  /** Bytes. */
  size: number;
  /** Where its chunk records are, and how many. */
  at: number;
  count: number;
}

export interface TreeV5 {
  root: ErofsNode;
  /** Each inode once, in the order of the tree. Their contents are without addresses still. */
  files: FileV5[];
  /** Names, the root's included. */
  names: number;
  /** What a position in the inode table leads to; undefined outside the tree. */
  nodeOf(index: number): ErofsNode | undefined;
}

const STRUCTURE = 'RAFS v5 inode';
const TABLE = 'RAFS v5 inode table';
/** A work thread has 512 MB of heap; 800,000 inodes were seen to fit. */
const MAX_INODES = 750_000;
const RECORD_UNIT = 8;
const MIN_RECORD = 8192;
const ROOT = 1;
const NO_XATTRS: readonly Xattr[] = [];

/**
 * Reads the tree below the root: every record, name, attribute and digest is checked. Work and memory are bounded by the
 * size of the bootstrap: a position of the table belongs to one directory, and records may not claim more than there is.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readTree(view: DataView, superBlock: SuperBlock): TreeV5 {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const entries = superBlock.inodeTable.size / INDEX_SIZE;
  if (entries > MAX_INODES) {
    throw unsupported(
      `a RAFS v5 image of ${entries} names, of at most ${MAX_INODES}`,
      'Convert the image again with `--fs-version 6`.',
    );
  }
  const nodes = new Array<ErofsNode | undefined>(entries + 1);
  const parents = new Uint32Array(entries + 1);
  /** By inode number, the position of the first name; 0 where there was none. */
  const firstNames = new Uint32Array(entries + 1);
  const files: FileV5[] = [];
  const checkDigest = createDigestCheck(bytes, superBlock.digester);
  const emptyFile = { kind: 'file' as const, size: 0, ...encodeChunks(0, superBlock.chunkSize, () => undefined) };
  let claimed = 0;
  let names = 0;

  const recordAt = (index: number): number => {
    const at = superBlock.inodeTable.offset + (index - 1) * INDEX_SIZE;
    const offset = view.getUint32(at, true) * RECORD_UNIT;
    if (offset < MIN_RECORD) throw corrupt(TABLE, 'offset', at, `the record of inode ${index} cannot be at ${offset}`);
    return offset;
  };
  const nameOf = (index: number): Buffer => {
    const at = recordAt(index);
    return bytes.subarray(at + INODE_HEAD_SIZE, at + INODE_HEAD_SIZE + view.getUint16(at + 100, true));
  };
  const pathOf = (index: number): string => {
    const parts: string[] = [];
    for (let i = index; i > ROOT; i = parents[i]) parts.push(nameOf(i).toString());
    return JSON.stringify(`/${parts.reverse().join('/')}`);
  };

  function enter(index: number): InodeV5 {
    const inode = readInode(view, index, recordAt(index));
    claimed += inode.end - inode.at;
    if (claimed > bytes.length) {
      throw corrupt(STRUCTURE, 'child_count', inode.at + 96, 'inodes claim more bytes than the bootstrap has');
    }
    names++;
    if (inode.ino === 0 || inode.ino > entries) {
      throw corrupt(STRUCTURE, 'ino', inode.at + 40, `${inode.ino} is no position in the table (inode ${index})`);
    }
    const known = firstNames[inode.ino];
    if (known !== 0) {
      requireSame(bytes, inode, readInode(view, known, recordAt(known)));
      nodes[index] = nodes[known];
      return inode;
    }
    if ((inode.mode & S_IFMT) !== S_IFDIR) checkDigest.ofFile(inode);
    const node = makeNode(inode);
    nodes[index] = node;
    firstNames[inode.ino] = index;
    if ((inode.mode & S_IFMT) === S_IFREG && inode.size > 0)
      files.push({ node, index, size: inode.size, at: inode.chunksAt, count: inode.childCount });
    return inode;
  }

  function makeNode(inode: InodeV5): ErofsNode {
    const { mode, mtime, mtimeNs, nlink } = inode;
    const [uid, gid] = superBlock.hasOwners ? [inode.uid, inode.gid] : [0, 0];
    const xattrs = inode.xattrsSize === 0 ? NO_XATTRS : readXattrs(bytes, inode);
    for (const xattr of xattrs) {
      if (canHoldXattr(xattr)) continue;
      throw unsupported(
        `RAFS v5 image: EROFS cannot hold the extended attribute "${xattr.name}" (${xattr.value.length} bytes) of ${pathOf(inode.index)}`,
        'Convert the image again without that attribute.',
      );
    }
    return { mode, uid, gid, mtime, mtimeNs, nlink, xattrs, content: contentOf(inode) };
  }

  function contentOf(inode: InodeV5): ErofsNode['content'] {
    switch (inode.mode & S_IFMT) {
      case S_IFDIR:
        return { kind: 'directory', children: [] };
      case S_IFREG: {
        const count = Math.ceil(inode.size / superBlock.chunkSize);
        if (inode.childCount !== count) {
          const why = `${inode.childCount} chunks for ${inode.size} bytes (inode ${inode.index})`;
          throw corrupt(STRUCTURE, 'child_count', inode.at + 96, why);
        }
        // Addresses come when all chunks are known.
        return emptyFile;
      }
      case S_IFLNK: {
        const target = bytes.subarray(inode.targetAt, inode.targetAt + inode.targetSize);
        if (target.includes(0)) {
          throw corrupt(STRUCTURE, 'symlink', inode.targetAt, `contains NUL (inode ${inode.index})`);
        }
        return { kind: 'symlink', target };
      }
      default:
        return { kind: 'special', device: inode.rdev };
    }
  }

  function readDirectory(inode: InodeV5): InodeV5[] {
    const { at, childIndex, childCount, index } = inode;
    const children: Child[] = [];
    const directories: InodeV5[] = [];
    if (childCount > 0 && (childIndex <= ROOT || childIndex + childCount - 1 > entries)) {
      const why = `children ${childIndex} to ${childIndex + childCount - 1} of ${entries} (inode ${index})`;
      throw corrupt(STRUCTURE, 'child_index', at + 92, why);
    }
    const digests = checkDigest.ofDirectory(inode);
    let last = '';
    for (let child = childIndex; child < childIndex + childCount; child++) {
      if (nodes[child] !== undefined) {
        throw corrupt(STRUCTURE, 'child_index', at + 92, `inode ${child} is in two directories (inode ${index})`);
      }
      parents[child] = index;
      const found = enter(child);
      const name = bytes.toString('latin1', found.nameAt, found.nameAt + found.nameSize);
      checkName(name, last, found);
      last = name;
      digests.add(found);
      const node = nodes[child]!;
      children.push({ name, node });
      if (node.content.kind === 'directory') directories.push(found);
    }
    digests.check();
    nodes[index]!.content = { kind: 'directory', children };
    return directories;
  }

  if (entries < ROOT) throw corrupt(TABLE, 'entries', 56, 'no root');
  const root = enter(ROOT);
  if ((root.mode & S_IFMT) !== S_IFDIR) throw corrupt(STRUCTURE, 'mode', root.at + 60, 'the root is no directory');
  const directories = [root];
  for (let directory = directories.pop(); directory; directory = directories.pop()) {
    for (const below of readDirectory(directory).reverse()) directories.push(below);
  }
  return { root: nodes[ROOT]!, files, names, nodeOf: (index) => nodes[index] };
}

/** @param name and the one before it, as Latin-1 text */
function checkName(name: string, last: string, inode: InodeV5): void {
  const fail = (why: string) => corrupt(STRUCTURE, 'name', inode.nameAt, `${why} (inode ${inode.index})`);
  if (name.includes('\0') || name.includes('/')) throw fail('contains "/" or NUL');
  if (name === '.' || name === '..') throw fail('"." or ".."');
  if (name <= last) throw fail('names are not in strictly ascending order');
}

/** Further names of an inode have records of their own: all but name and parent must be the same. */
function requireSame(bytes: Buffer, inode: InodeV5, first: InodeV5): void {
  const fail = (field: string, at: number) => {
    const why = `inode ${inode.index} is a hard link of inode ${first.index}, but says something else`;
    return corrupt(STRUCTURE, field, at, why);
  };
  if ((inode.mode & S_IFMT) === S_IFDIR) throw fail('ino', inode.at + 40);
  const fields = ['mode', 'uid', 'gid', 'nlink', 'size', 'rdev', 'mtime', 'mtimeNs', 'childCount'] as const;
  for (const field of fields) if (inode[field] !== first[field]) throw fail(field, inode.at);
  const digest = (of: InodeV5) => bytes.subarray(of.at, of.at + DIGEST_SIZE);
  if (!digest(inode).equals(digest(first))) throw fail('digest', inode.at);
  const target = (of: InodeV5) => bytes.subarray(of.targetAt, of.targetAt + of.targetSize);
  if (!target(inode).equals(target(first))) throw fail('symlink', inode.targetAt);
  if (!bytes.subarray(inode.chunksAt, inode.end).equals(bytes.subarray(first.chunksAt, first.end))) {
    throw fail('chunks', inode.chunksAt);
  }
  if (xattrKey(bytes, inode) !== xattrKey(bytes, first)) throw fail('xattr', inode.xattrsAt);
}

/** Builders write the attributes of each name in an order of its own. */
function xattrKey(bytes: Buffer, inode: InodeV5): string {
  const pairs = readXattrs(bytes, inode).map(({ name, value }) => [
    name.toString('latin1'),
    Buffer.from(value).toString('latin1'),
  ]);
  return JSON.stringify(pairs.sort(([a], [b]) => (a < b ? -1 : 1)));
}
