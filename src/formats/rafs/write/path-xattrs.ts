import { constants } from 'node:os';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { NymphError } from '../../../errors.ts';

/** Extended attributes of a path, through the C library: Node has no call for them. Synchronous. */

const libc = koffi.load('libc.so.6');
const llistxattr = libc.func('int64_t llistxattr(const uint8_t *path, uint8_t *list, size_t size)');
const lgetxattr = libc.func('int64_t lgetxattr(const uint8_t *path, const uint8_t *name, uint8_t *value, size_t size)');

/** The kernel's XATTR_LIST_MAX and XATTR_SIZE_MAX. */
const LIMIT = 65536;
const list = Buffer.alloc(LIMIT);
const value = Buffer.alloc(LIMIT);

/**
 * @param path bytes of the path; a symlink is not followed
 * @returns names and values, ascending by the bytes of the name; none where the file system has no attributes
 * @throws NymphError `source`
 */
export function readPathXattrs(path: Buffer): { name: Buffer; value: Buffer }[] {
  const cPath = cString(path);
  const length = llistxattr(cPath, list, LIMIT) as number;
  if (length < 0) {
    if (koffi.errno() === constants.errno.EOPNOTSUPP) return [];
    throw refused('llistxattr', path);
  }
  const names: Buffer[] = [];
  for (let at = 0; at < length; ) {
    const end = list.indexOf(0, at);
    names.push(Buffer.from(list.subarray(at, end)));
    at = end + 1;
  }
  return names.sort(Buffer.compare).map((name) => {
    const size = lgetxattr(cPath, cString(name), value, LIMIT) as number;
    if (size < 0) throw refused(`lgetxattr ${name}`, path);
    return { name, value: Buffer.from(value.subarray(0, size)) };
  });
}

function cString(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(1)]);
}

function refused(call: string, path: Buffer): NymphError {
  return new NymphError('source', `cannot read ${path}: ${call}: ${getSystemErrorName(-koffi.errno())}`);
}
