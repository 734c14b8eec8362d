import { release } from 'node:os';
import koffi from 'koffi';

/**
 * Files that the kernel reads by itself in our place (FUSE passthrough, Linux ≥ 6.9 with CONFIG_FUSE_PASSTHROUGH). Source:
 * include/uapi/linux/fuse.h, `struct fuse_backing_map`.
 */

const BACKING_OPEN = 0x4010_e501;
const BACKING_CLOSE = 0x4004_e502;

const ioctl = koffi.load('libc.so.6').func('int ioctl(int fd, unsigned long request, const uint8_t *argument)');

/** True for a Linux that may take such files: what it was built with, and where the cache lies, decide beside that. */
export function kernelHasPassthrough(): boolean {
  const [major, minor] = release().split('.').map(Number);
  return major > 6 || (major === 6 && minor >= 9);
}

/**
 * Gives the kernel a file to read from. It does no I/O.
 * @returns the number by which the connection knows it; undefined where the kernel takes none: it is too old, the
 *   connection was begun without, or the file lies on a stacked file system such as overlayfs
 */
export function openBacking(fuseFd: number, fd: number): number | undefined {
  const map = Buffer.alloc(16);
  map.writeInt32LE(fd, 0);
  const id = ioctl(fuseFd, BACKING_OPEN, map) as number;
  return id > 0 ? id : undefined;
}

/** Takes it back; who has opened through it reads on. */
export function closeBacking(fuseFd: number, id: number): void {
  const argument = Buffer.alloc(4);
  argument.writeUInt32LE(id, 0);
  // Of a number that the kernel does not know nothing is left to do.
  ioctl(fuseFd, BACKING_CLOSE, argument);
}
