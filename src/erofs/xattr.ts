import { corrupt } from '../errors.ts';
import type { Inode } from './inode.ts';
import type { Erofs } from './super-block.ts';

export interface Xattr {
  /** Full name, as listxattr(2) gives it. */
  name: Buffer;
  /** A view into the bootstrap. */
  value: Uint8Array;
}

/** Offsets are bytes in the bootstrap; the value follows the suffix. */
type XattrVisitor = (prefix: string, suffixStart: number, valueStart: number, valueEnd: number) => void;

const STRUCTURE = 'EROFS xattrs';
const HEADER_SIZE = 12;
const ENTRY_HEADER_SIZE = 4;

/** By `name_index` (Linux `fs/erofs/erofs_fs.h`). RAFS builders write no others. */
const PREFIXES: readonly (string | undefined)[] = [
  undefined,
  'user.',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'trusted.',
  undefined,
  'security.',
];

/**
 * The extended attributes of an inode, in the order of the image.
 * @throws NymphError `corrupt`
 */
export function readXattrs(erofs: Erofs, inode: Inode): Xattr[] {
  const found: Xattr[] = [];
  const { bytes } = erofs;
  eachXattr(erofs, inode, (prefix, suffixStart, valueStart, valueEnd) => {
    const name = Buffer.concat([Buffer.from(prefix), bytes.subarray(suffixStart, valueStart)]);
    found.push({ name, value: bytes.subarray(valueStart, valueEnd) });
  });
  return found;
}

/** Checks the extended attributes of an inode. @throws NymphError `corrupt` */
export function checkXattrs(erofs: Erofs, inode: Inode): void {
  if (inode.xattrSize > 0) eachXattr(erofs, inode, () => {});
}

function eachXattr(erofs: Erofs, inode: Inode, visit: XattrVisitor): void {
  if (inode.xattrSize === 0) return;
  const { view, bytes } = erofs;
  const start = inode.xattrOffset;
  const end = start + inode.xattrSize;
  // The kernel refuses an area that holds nothing but its header.
  if (inode.xattrSize === HEADER_SIZE) throw corrupt(STRUCTURE, 'xattr_icount', inode.offset + 2, 'an empty area');
  if (bytes[start + 4] !== 0)
    throw corrupt(STRUCTURE, 'shared_count', start + 4, 'shared attributes, which RAFS has not');
  let at = start + HEADER_SIZE;
  while (at < end) {
    const suffixStart = at + ENTRY_HEADER_SIZE;
    const valueStart = suffixStart + bytes[at];
    const valueEnd = valueStart + view.getUint16(at + 2, true);
    if (valueEnd > end) throw corrupt(STRUCTURE, 'size', at, 'an attribute reaches behind the area');
    const prefix = PREFIXES[bytes[at + 1]];
    if (prefix === undefined) throw corrupt(STRUCTURE, 'name_index', at + 1, `${bytes[at + 1]} is no known prefix`);
    for (let i = suffixStart; i < valueStart; i++) {
      if (bytes[i] === 0) throw corrupt(STRUCTURE, 'name', i, 'contains NUL');
    }
    visit(prefix, suffixStart, valueStart, valueEnd);
    at += Math.ceil((valueEnd - at) / 4) * 4;
  }
}
