import { NymphError } from '../errors.ts';
import type { Xattr } from './xattr.ts';

const HEADER_SIZE = 12;
const ENTRY_HEADER_SIZE = 4;
/** One for all: most inodes have no attributes. */
const NO_AREA = Buffer.alloc(0);
const ICOUNT_MAX = 0xffff;

/** Prefix and `name_index`, the whole names before the prefixes that they begin with. */
const PREFIXES: readonly (readonly [string, number])[] = [
  ['system.posix_acl_access', 2],
  ['system.posix_acl_default', 3],
  ['user.', 1],
  ['trusted.', 4],
  ['security.', 6],
];

/**
 * Encodes the inline attribute area of an inode (Linux `fs/erofs/erofs_fs.h`, `erofs_xattr_ibody_header`).
 * @returns the area, a multiple of 4 bytes; empty where there are no attributes
 * @throws NymphError `unsupported` for a name or size that EROFS cannot hold
 */
export function encodeXattrs(xattrs: readonly Xattr[]): Buffer {
  if (xattrs.length === 0) return NO_AREA;
  const parts: Buffer[] = [Buffer.alloc(HEADER_SIZE)];
  for (const xattr of xattrs) {
    const { name, value } = xattr;
    const prefix = prefixOf(xattr);
    if (!prefix)
      throw new NymphError('unsupported', `EROFS cannot hold the extended attribute ${name} of ${value.length} bytes`);
    const suffix = name.subarray(prefix[0].length);
    const size = ENTRY_HEADER_SIZE + suffix.length + value.length;
    const entry = Buffer.alloc(Math.ceil(size / 4) * 4);
    entry[0] = suffix.length;
    entry[1] = prefix[1];
    entry.writeUInt16LE(value.length, 2);
    entry.set(suffix, ENTRY_HEADER_SIZE);
    entry.set(value, ENTRY_HEADER_SIZE + suffix.length);
    parts.push(entry);
  }
  const area = Buffer.concat(parts);
  if (xattrCount(area) > ICOUNT_MAX)
    throw new NymphError(
      'unsupported',
      `the extended attributes of one file take ${area.length} bytes, too many for EROFS`,
    );
  return area;
}

/** Whether EROFS has room for the name and the value of an attribute. */
export function canHoldXattr(xattr: Xattr): boolean {
  return prefixOf(xattr) !== undefined;
}

function prefixOf({ name, value }: Xattr): (typeof PREFIXES)[number] | undefined {
  const text = name.toString('latin1');
  if (value.length > 0xffff || text.includes('\0')) return undefined;
  const prefix = PREFIXES.find(([start, index]) =>
    index === 2 || index === 3 ? text === start : text.startsWith(start),
  );
  return prefix && text.length - prefix[0].length <= 255 ? prefix : undefined;
}

/** `i_xattr_icount` of an area. */
export function xattrCount(area: Buffer): number {
  return area.length === 0 ? 0 : (area.length - HEADER_SIZE) / 4 + 1;
}
