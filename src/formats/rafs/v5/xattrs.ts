import type { Xattr } from '../../../erofs/xattr.ts';
import { corrupt } from '../../../errors.ts';
import type { InodeV5 } from './inode.ts';

const STRUCTURE = 'RAFS v5 xattrs';
const LENGTH_SIZE = 4;

/**
 * The extended attributes of an inode, in the order of the image: `length u32 · name · NUL · value`, nothing between.
 * @returns views into the bootstrap
 * @throws NymphError `corrupt`
 */
export function readXattrs(bytes: Buffer, inode: InodeV5): Xattr[] {
  const found: Xattr[] = [];
  const names = new Set<string>();
  const end = inode.xattrsAt + inode.xattrsSize;
  for (let at = inode.xattrsAt; at < end; ) {
    const start = at + LENGTH_SIZE;
    const next = start > end ? Number.POSITIVE_INFINITY : start + bytes.readUInt32LE(at);
    if (next > end) throw corrupt(STRUCTURE, 'length', at, `an attribute reaches behind those of inode ${inode.index}`);
    const nul = bytes.subarray(start, next).indexOf(0);
    if (nul <= 0) throw corrupt(STRUCTURE, 'name', start, `without a name or its end (inode ${inode.index})`);
    const name = bytes.subarray(start, start + nul);
    const key = name.toString('latin1');
    if (names.has(key)) throw corrupt(STRUCTURE, 'name', start, `${key} is there twice (inode ${inode.index})`);
    names.add(key);
    found.push({ name, value: bytes.subarray(start + nul + 1, next) });
    at = next;
  }
  return found;
}
