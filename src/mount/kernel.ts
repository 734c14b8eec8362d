import { execFile } from 'node:child_process';
import { constants } from 'node:os';
import { getSystemErrorMessage, getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { NymphError } from '../errors.ts';

/**
 * mount(2), on a thread of its own: mounting EROFS may read through our own FUSE mount, so on the
 * thread that answers faults it would wait for itself. mount(8) is no way either: before util-linux 2.41 it puts a loop
 * device in between.
 */

/** Bytes of mount options: a page with its NUL. */
export const MOST_OPTIONS = 4095;
export const MS_RDONLY = 1;
export const MS_NOSUID = 2;
export const MS_NODEV = 4;
export const MS_REMOUNT = 32;
export const MS_BIND = 4096;

type AsyncCall = { async: (...args: unknown[]) => void };
const libc = koffi.load('libc.so.6');
const mount2 = libc.func(
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const char *data)',
) as unknown as AsyncCall;
const fcntl = libc.func('int fcntl(int fd, int command, int argument)');
const F_SETFD = 2;
const FD_CLOEXEC = 1;

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
  if (Buffer.byteLength(data) > MOST_OPTIONS)
    throw new NymphError('unsupported', `mount options for ${target} are longer than a page`, {
      hint: 'Use a shorter root directory.',
    });
  return call(mount2, source, target, type, flags, data);
}

/**
 * Unmounts `target`, by umount(8) in a process of its own: the kernel waits there for reads that it began, which only
 * this daemon can answer. A thread of ours that waits so cannot be killed, and neither could the daemon be.
 * @param abort ends a FUSE connection first
 * @returns undefined, or why the kernel refused (EINVAL: it is no mount point).
 */
export function umount(target: string, detach = false, abort = false): Promise<Refusal | undefined> {
  const options = [
    '--internal-only',
    '--no-canonicalize',
    ...(detach ? ['--lazy'] : []),
    ...(abort ? ['--force'] : []),
  ];
  return new Promise((resolve) => {
    execFile('umount', [...options, target], { env: { ...process.env, LC_ALL: 'C' } }, (error, _, said) => {
      if (error === null) resolve(undefined);
      else if (/busy/.test(said)) resolve(refusal(constants.errno.EBUSY));
      else if (/not mounted|no mount point/.test(said)) resolve(refusal(constants.errno.EINVAL));
      else resolve({ errno: 0, name: 'umount', message: said.trim() || error.message });
    });
  });
}

/** Keeps a descriptor from the processes that we start: /dev/fuse is nobody else's business. */
export function closeOnExec(fd: number): void {
  if (fcntl(fd, F_SETFD, FD_CLOEXEC) !== 0)
    throw new NymphError('internal', `descriptor ${fd} cannot be set close-on-exec: ${refusal(koffi.errno()).message}`);
}
