/** Extended attributes of a path that is bytes, through the C library: Node has no call for them. */
import { constants } from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');
const llistxattr = libc.func('int64_t llistxattr(const uint8_t *path, uint8_t *list, size_t size)');
const lgetxattr = libc.func('int64_t lgetxattr(const uint8_t *path, const uint8_t *name, uint8_t *value, size_t size)');
const lsetxattr = libc.func(
  'int lsetxattr(const uint8_t *path, const uint8_t *name, const uint8_t *value, size_t size, int flags)',
);

const XATTR_MAX = 65536; // XATTR_SIZE_MAX and XATTR_LIST_MAX of the kernel
const list = Buffer.alloc(XATTR_MAX);
const value = Buffer.alloc(XATTR_MAX);

/** @returns names and values (base64), sorted by name; empty where the file system has none */
export function xattrs(path: Buffer): Record<string, string> {
  const cPath = cString(path);
  const length = llistxattr(cPath, list, list.length) as number;
  if (length < 0) {
    if (koffi.errno() === constants.errno.EOPNOTSUPP) return {};
    throw failed('llistxattr', path);
  }
  const names = list.toString('latin1', 0, length).split('\0').slice(0, -1).sort();
  const result: Record<string, string> = {};
  for (const name of names) {
    const size = lgetxattr(cPath, cString(Buffer.from(name, 'latin1')), value, value.length) as number;
    if (size < 0) throw failed(`lgetxattr ${name}`, path);
    result[Buffer.from(name, 'latin1').toString()] = value.toString('base64', 0, size);
  }
  return result;
}

/** Sets one extended attribute; does not follow a symlink. */
export function setXattr(path: Buffer, name: string, data: Buffer): void {
  if ((lsetxattr(cString(path), cString(Buffer.from(name)), data, data.length, 0) as number) < 0)
    throw failed(`lsetxattr ${name}`, path);
}

function cString(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(1)]);
}

function failed(what: string, path: Buffer): Error {
  const number = koffi.errno();
  const code = Object.entries(constants.errno).find(([, value]) => value === number)?.[0] ?? `errno ${number}`;
  return Object.assign(new Error(`${what} ${path.toString()}: ${code}`), { code });
}
