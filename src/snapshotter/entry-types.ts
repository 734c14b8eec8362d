import koffi from 'koffi';
import { NymphError } from '../errors.ts';

const libc = koffi.load('libc.so.6');
const opendir = libc.func('void *opendir(const char *path)');
const readdir = libc.func('void *readdir(void *directory)');
const closedir = libc.func('int closedir(void *directory)');
/** Offset of `d_type` in glibc's `struct dirent` on 64-bit systems (readdir(3)). */
const TYPE_AT = 18;

/**
 * Refuses a file system that does not say what kind of inode a name is, such as XFS made with `ftype=0`: overlayfs would
 * show whiteouts as files there. Synchronous: for start-up.
 * @throws NymphError `unsupported`
 */
export function requireEntryTypes(directory: string): void {
  const open: unknown = opendir(directory);
  if (open === null) throw new NymphError('cache', `cannot read ${directory}`);
  try {
    // Any will do: `.` is always there.
    const entry: unknown = readdir(open);
    if (entry !== null && koffi.decode(entry, TYPE_AT, 'uint8') === 0)
      throw new NymphError(
        'unsupported',
        `the file system of ${directory} does not keep types in directories (d_type)`,
        {
          hint: 'Overlayfs needs that: use ext4, or XFS made with ftype=1.',
        },
      );
  } finally {
    closedir(open);
  }
}
