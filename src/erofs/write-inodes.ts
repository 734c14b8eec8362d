import { BLOCK_SIZE } from '../image/image.ts';
import {
  FILE_TYPE_OF_MODE,
  INODE_SLOT_SIZE,
  LAYOUT_CHUNK_BASED,
  LAYOUT_FLAT_INLINE,
  LAYOUT_FLAT_PLAIN,
} from './inode.ts';
import { type DirectoryShape, encodeDirectory, shapeDirectory } from './write-directory.ts';
import { encodeXattrs, xattrCount } from './write-xattr.ts';
import type { Xattr } from './xattr.ts';

/** An inode to write. Several names may lead to one object: hard links. */
export interface ErofsNode {
  /** Type and permission bits, as in stat(2). */
  mode: number;
  uid: number;
  gid: number;
  /** Seconds since 1970, may be negative, and nanoseconds. */
  mtime: number;
  mtimeNs: number;
  nlink: number;
  xattrs: readonly Xattr[];
  content: NodeContent;
}

export interface Child {
  /** Bytes as Latin-1 text: small, and in order as the bytes are. */
  name: string;
  node: ErofsNode;
}

export type NodeContent =
  /** Children ascending by bytes, without `.` and `..`. */
  | { kind: 'directory'; children: readonly Child[] }
  | { kind: 'symlink'; target: Buffer }
  /** `device`: the number as EROFS keeps it, 32 bits; 0 for sockets and fifos. */
  | { kind: 'special'; device: number }
  /** `format`: the union `u` of chunk based inodes; 8 bytes for each address. */
  | { kind: 'file'; size: number; format: number; addresses: Uint8Array };

const HEAD_SIZE = 64;
const NO_DATA = Buffer.alloc(0);

/** Where one inode is, in bytes from the start of the area. */
interface Place {
  node: ErofsNode;
  offset: number;
  xattrs: Buffer;
  layout: number;
  size: number;
  /** First block of the data outside of the inode, from the start of the area; -1 if there is none. */
  block: number;
  shape?: DirectoryShape;
  parent: ErofsNode;
}

export interface InodeArea {
  /** Inodes, then the blocks of large directories and symlinks: a multiple of {@link BLOCK_SIZE}. */
  bytes: Buffer;
  nidOf(node: ErofsNode): number;
  /** Inodes, hard links once. */
  count: number;
}

/**
 * Places and encodes all inodes below a root, the root first. Inodes are extended, so that times and owners are whole.
 * The inodes of one directory stand together, for readers that list it.
 *
 * Flat data goes behind its inode where it fits the block; whole blocks go behind all inodes.
 * @param firstBlock block of the bootstrap at which the area will start; at least 1
 * @param firstNid inode number of the area's first 32 bytes
 */
export function writeInodes(root: ErofsNode, firstBlock: number, firstNid: number): InodeArea {
  const places = new Map<ErofsNode, Place>();
  let end = 0;
  let blocks = 0;

  function place(node: ErofsNode, parent: ErofsNode): void {
    if (places.has(node)) return;
    const { content } = node;
    const xattrs = encodeXattrs(node.xattrs);
    const head = HEAD_SIZE + xattrs.length;
    const shape =
      content.kind === 'directory'
        ? shapeDirectory(withDots(content.children, node, parent).map(({ name }) => name))
        : undefined;
    const size = shape?.size ?? (content.kind === 'symlink' ? content.target.length : 0);
    const tail = size % BLOCK_SIZE;
    const inline = tail > 0 && head + tail <= BLOCK_SIZE;
    const outside = Math.ceil((size - (inline ? tail : 0)) / BLOCK_SIZE);
    const addresses = content.kind === 'file' ? content.addresses.length : 0;
    const length = addresses > 0 ? roundUp(head, 8) + addresses : head + (inline ? tail : 0);
    // The inline tail must not cross a block boundary; other inodes keep at least their head in one block.
    const together = inline ? length : HEAD_SIZE;
    if ((end % BLOCK_SIZE) + together > BLOCK_SIZE) end = roundUp(end, BLOCK_SIZE);
    const layout = content.kind === 'file' ? LAYOUT_CHUNK_BASED : inline ? LAYOUT_FLAT_INLINE : LAYOUT_FLAT_PLAIN;
    places.set(node, { node, offset: end, xattrs, layout, size, block: outside > 0 ? blocks : -1, shape, parent });
    end = roundUp(end + length, INODE_SLOT_SIZE);
    blocks += outside;
  }

  place(root, root);
  const directories = [root];
  for (let directory = directories.pop(); directory; directory = directories.pop()) {
    if (directory.content.kind !== 'directory') continue;
    const { children } = directory.content;
    for (const { node } of children) place(node, directory);
    for (const { node } of children.toReversed()) if (node.content.kind === 'directory') directories.push(node);
  }

  const nidOf = (node: ErofsNode): number => firstNid + places.get(node)!.offset / INODE_SLOT_SIZE;
  const dataStart = roundUp(end, BLOCK_SIZE);
  const bytes = Buffer.alloc(dataStart + blocks * BLOCK_SIZE);
  let serial = 0;
  for (const at of places.values()) {
    writeInode(bytes, at, ++serial, firstBlock + dataStart / BLOCK_SIZE);
    const data = flatDataOf(at, nidOf);
    const plain = at.layout === LAYOUT_FLAT_INLINE ? data.length - (data.length % BLOCK_SIZE) : data.length;
    if (plain > 0) bytes.set(data.subarray(0, plain), dataStart + at.block * BLOCK_SIZE);
    bytes.set(data.subarray(plain), at.offset + HEAD_SIZE + at.xattrs.length);
  }
  return { bytes, nidOf, count: places.size };
}

function writeInode(bytes: Buffer, at: Place, serial: number, dataBlock: number): void {
  const { node, offset, xattrs, layout } = at;
  const { content } = node;
  bytes.writeUInt16LE((layout << 1) | 1, offset);
  bytes.writeUInt16LE(xattrCount(xattrs), offset + 2);
  bytes.writeUInt16LE(node.mode, offset + 4);
  bytes.writeBigUInt64LE(BigInt(content.kind === 'file' ? content.size : at.size), offset + 8);
  let union = at.block < 0 ? 0 : dataBlock + at.block;
  if (content.kind === 'file') union = content.format;
  if (content.kind === 'special') union = content.device;
  bytes.writeUInt32LE(union, offset + 16);
  bytes.writeUInt32LE(serial, offset + 20);
  bytes.writeUInt32LE(node.uid, offset + 24);
  bytes.writeUInt32LE(node.gid, offset + 28);
  bytes.writeBigInt64LE(BigInt(node.mtime), offset + 32);
  bytes.writeUInt32LE(node.mtimeNs, offset + 40);
  bytes.writeUInt32LE(node.nlink, offset + 44);
  bytes.set(xattrs, offset + HEAD_SIZE);
  if (content.kind === 'file') bytes.set(content.addresses, roundUp(offset + HEAD_SIZE + xattrs.length, 8));
}

/** Data of a directory or symlink; empty for others. */
function flatDataOf(at: Place, nidOf: (node: ErofsNode) => number): Buffer {
  const { content } = at.node;
  if (content.kind === 'symlink') return content.target;
  if (content.kind !== 'directory') return NO_DATA;
  const entries = withDots(content.children, at.node, at.parent).map(({ name, node }) => ({
    name,
    nid: nidOf(node),
    type: FILE_TYPE_OF_MODE[node.mode >> 12],
  }));
  return encodeDirectory(at.shape!, entries);
}

/** Children with `.` and `..` at their places. */
function withDots(children: readonly Child[], node: ErofsNode, parent: ErofsNode): Child[] {
  const all = [...children, { name: '.', node }, { name: '..', node: parent }];
  return all.sort((a, b) => (a.name < b.name ? -1 : 1));
}

function roundUp(value: number, to: number): number {
  return Math.ceil(value / to) * to;
}
