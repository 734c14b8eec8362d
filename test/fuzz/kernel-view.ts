/**
 * Reads a bootstrap that was accepted as Linux does (`fs/erofs`: super.c, inode.c, dir.c, data.c of 6.12), with code of its
 * own and no checks but those that the kernel has. What it sees is what the kernel would serve.
 */
import { crc32 } from 'node:zlib';
import { ensure } from './target.ts';

/** One name, in lines that can be compared. */
export interface SeenFile {
  path: string;
  nid: number;
  mode: number;
  uid: number;
  gid: number;
  nlink: number;
  size: number;
  mtime: number;
  rdev: number;
  /** Of symlinks, and of files that are in the bootstrap itself: checksum of the bytes. */
  content?: number;
  xattrs: [name: string, checksum: number][];
  /** Of files in blobs; `blob` -1 is a hole. Neighbours are one. */
  extents: SeenExtent[];
}

export interface SeenExtent {
  blob: number;
  offset: number;
  length: number;
}

const BLOCK = 4096;
const PREFIXES: Record<number, string> = {
  1: 'user.',
  2: 'system.posix_acl_access',
  3: 'system.posix_acl_default',
  4: 'trusted.',
  6: 'security.',
};
const NULL_ADDRESS = 0xffffffff;

interface Node {
  nid: number;
  at: number;
  layout: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  union: number;
  head: number;
  xattrs: number;
}

/** Everything below the root, in the order of directories. */
export function kernelView(bytes: Uint8Array): SeenFile[] {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
  const meta = view.readUInt32LE(1024 + 40) * BLOCK;
  const deviceCount = view.readUInt16LE(1024 + 86);
  const slots = view.readUInt16LE(1024 + 88) * 128;
  let mask = 1;
  while (mask < deviceCount + 1) mask <<= 1;
  mask--;

  const u64 = (at: number) => Number(view.readBigUInt64LE(at));

  function nodeOf(nid: number): Node {
    const at = meta + nid * 32;
    const format = view.readUInt16LE(at);
    const extended = (format & 1) !== 0;
    const count = view.readUInt16LE(at + 2);
    const common = { nid, at, layout: (format >> 1) & 7, mode: view.readUInt16LE(at + 4) };
    const rest = { union: view.readUInt32LE(at + 16), xattrs: count === 0 ? 0 : 12 + 4 * (count - 1) };
    if (extended) {
      return {
        ...{ ...common, ...rest, head: 64, size: u64(at + 8), mtime: Number(view.readBigInt64LE(at + 32)) },
        ...{ uid: view.readUInt32LE(at + 24), gid: view.readUInt32LE(at + 28), nlink: view.readUInt32LE(at + 44) },
      };
    }
    return {
      ...{ ...common, ...rest, head: 32, size: view.readUInt32LE(at + 8), mtime: u64(1024 + 24) },
      ...{ uid: view.readUInt16LE(at + 24), gid: view.readUInt16LE(at + 26), nlink: view.readUInt16LE(at + 6) },
    };
  }

  /** Where byte `position` of flat data is: in a block of the image, or in the tail behind the inode. */
  function flatAt(node: Node, position: number): number {
    const lastBlock = Math.ceil(node.size / BLOCK) - 1;
    if (node.layout === 2 && Math.floor(position / BLOCK) === lastBlock) {
      const tail = node.at + node.head + node.xattrs + (position % BLOCK);
      ensure((tail % BLOCK) + (node.size % BLOCK) - (position % BLOCK) <= BLOCK, 'a tail crosses a block');
      return tail;
    }
    return node.union * BLOCK + position;
  }

  function flatRead(node: Node): Buffer {
    const parts: Buffer[] = [];
    for (let position = 0; position < node.size; position += BLOCK) {
      const at = flatAt(node, position);
      const length = Math.min(BLOCK, node.size - position);
      ensure(at >= 0 && at + length <= view.length, `inode ${node.nid} has data outside of the bootstrap`);
      checkNotMapped(at);
      parts.push(view.subarray(at, at + length));
    }
    return Buffer.concat(parts);
  }

  /** Addresses of the image itself that a device claims are read from the device. */
  function checkNotMapped(at: number): void {
    for (let i = 0; i < deviceCount; i++) {
      const mapped = view.readUInt32LE(slots + i * 128 + 68) * BLOCK;
      const size = view.readUInt32LE(slots + i * 128 + 64) * BLOCK;
      ensure(mapped === 0 || at < mapped || at >= mapped + size, 'a device stands over the bootstrap');
    }
  }

  function extentsOf(node: Node): SeenExtent[] {
    const chunkSize = BLOCK * 2 ** (node.union & 0x1f);
    const table = Math.ceil((node.at + node.head + node.xattrs) / 8) * 8;
    const extents: SeenExtent[] = [];
    for (let position = 0, k = 0; position < node.size; position += chunkSize, k++) {
      const length = Math.min(chunkSize, node.size - position);
      const block = view.readUInt32LE(table + k * 8 + 4);
      const device = view.readUInt16LE(table + k * 8 + 2) & mask;
      if (block === NULL_ADDRESS) addExtent(extents, { blob: -1, offset: 0, length });
      else {
        ensure(device > 0 && device <= deviceCount, `inode ${node.nid} is on device ${device} of ${deviceCount}`);
        addExtent(extents, { blob: device - 1, offset: block * BLOCK, length });
      }
    }
    return extents;
  }

  function xattrsOf(node: Node): SeenFile['xattrs'] {
    const found: SeenFile['xattrs'] = [];
    const end = node.at + node.head + node.xattrs;
    for (let at = node.at + node.head + 12; at < end && node.xattrs > 0; ) {
      const valueAt = at + 4 + view[at];
      const length = view.readUInt16LE(at + 2);
      ensure(valueAt + length <= end, 'an attribute reaches out of its area');
      const name = (PREFIXES[view[at + 1]] ?? '?') + view.toString('latin1', at + 4, valueAt);
      found.push([name, crc32(view.subarray(valueAt, valueAt + length))]);
      at = at + Math.ceil((valueAt + length - at) / 4) * 4;
    }
    return found;
  }

  function entriesOf(node: Node): { name: string; nid: number }[] {
    const data = flatRead(node);
    const found: { name: string; nid: number }[] = [];
    for (let start = 0; start < data.length; start += BLOCK) {
      const block = data.subarray(start, start + BLOCK);
      const count = block.readUInt16LE(8) / 12;
      for (let i = 0; i < count; i++) {
        const from = block.readUInt16LE(i * 12 + 8);
        const nul = block.indexOf(0, from);
        const to = i + 1 < count ? block.readUInt16LE(i * 12 + 20) : nul < 0 ? block.length : nul;
        ensure(to > from && to <= block.length && to - from <= 255, 'a name that the kernel refuses');
        found.push({ name: block.toString('latin1', from, to), nid: Number(block.readBigUInt64LE(i * 12)) });
      }
    }
    return found;
  }

  const seen: SeenFile[] = [];
  const root = view.readUInt16LE(1024 + 14);
  const directories = [{ path: '', nid: root, parent: root }];
  seen.push(describe('', nodeOf(root)));
  for (const { path, nid, parent } of directories) {
    for (const entry of entriesOf(nodeOf(nid))) {
      if (entry.name === '.') ensure(entry.nid === nid, '"." leads elsewhere');
      else if (entry.name === '..') ensure(entry.nid === parent, '".." leads elsewhere');
      else {
        const node = nodeOf(entry.nid);
        seen.push(describe(`${path}/${entry.name}`, node));
        if (node.mode >> 12 === 4) directories.push({ path: `${path}/${entry.name}`, nid: entry.nid, parent: nid });
        ensure(seen.length * 12 <= view.length, 'directories without end');
      }
    }
  }
  return seen;

  function describe(path: string, node: Node): SeenFile {
    const { nid, mode, uid, gid, nlink, size, mtime } = node;
    const type = mode >> 12;
    const inBlobs = type === 8 && node.layout === 4;
    const flat = type === 10 || (type === 8 && !inBlobs && size > 0);
    return {
      ...{ path, nid, mode, uid, gid, nlink, size, mtime },
      rdev: type === 8 || type === 4 || type === 10 ? 0 : node.union,
      xattrs: xattrsOf(node),
      extents: inBlobs ? extentsOf(node) : [],
      ...(flat && { content: crc32(flatRead(node)) }),
    };
  }
}

/** Adds an extent, joined to the last where it goes on. */
export function addExtent(extents: SeenExtent[], { blob, offset, length }: SeenExtent): void {
  const last = extents.at(-1);
  const follows = last !== undefined && last.blob === blob && (blob < 0 || last.offset + last.length === offset);
  if (follows) last.length += length;
  else if (length > 0) extents.push({ blob, offset: blob < 0 ? 0 : offset, length });
}
