import { getSystemErrorMessage, getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { NymphError } from '../errors.ts';

/**
 * mount(2) and umount2(2), each on a thread of its own: mounting EROFS may read through our own FUSE mount, so on the
 * thread that answers faults it would wait for itself. mount(8) is no way either: before util-linux 2.41 it puts a loop
 * device in between.
 */

export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MNT_FORCE = 1;
export const MNT_DETACH = 2;
export const UMOUNT_NOFOLLOW = 8;

type AsyncCall = { async: (...args: unknown[]) => void };
const libc = koffi.load('libc.so.6');
const mount2 = libc.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
) as unknown as AsyncCall;
const umount2 = libc.func('int umount2(const char *target, int flags)') as unknown as AsyncCall;

/** A refused system call: `errno` is the positive number, `name` as in errno(3). */
export interface Refusal {
  errno: number;
  name: string;
  message: string;
}

/** Node has no name for the errno by which EROFS refuses files of some file systems. */
const ENOTBLK = 15;

function refusal(errno: number): Refusal {
  if (errno === ENOTBLK) return { errno, name: 'ENOTBLK', message: 'block device required' };
  return { errno, name: getSystemErrorName(-errno), message: getSystemErrorMessage(-errno) };
}

function call(f: AsyncCall, ...args: unknown[]): Promise<Refusal | undefined> {
  return new Promise((resolve, reject) => {
    f.async(...args, (error: unknown, result: number) => {
      if (error) reject(error);
      else if (result === 0) resolve(undefined);
      // koffi gives errno of this call only inside its callback.
      else resolve(refusal(koffi.errno()));
    });
  });
}

/**
 * Mounts `source` on `target`.
 * @param data file-system options, comma separated; at most 4,095 bytes (a page, the kernel's limit).
 * @returns undefined, or why the kernel refused.
 */
export function mount(
  source: string,
  target: string,
  type: string,
  flags: number,
  data: string,
): Promise<Refusal | undefined> {
  if (Buffer.byteLength(data) > 4095)
    throw new NymphError('unsupported', `mount options for ${target} are longer than a page`, {
      hint: 'Use a shorter root directory.',
    });
  return call(mount2, source, target, type, flags, data);
}

/** Unmounts `target`. @returns undefined, or why the kernel refused (EINVAL: it is no mount point). */
export function umount(target: string, flags = UMOUNT_NOFOLLOW): Promise<Refusal | undefined> {
  return call(umount2, target, flags);
}
