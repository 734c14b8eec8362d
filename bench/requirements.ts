import { execFileSync } from 'node:child_process';
import { existsSync, statfsSync } from 'node:fs';
import { release } from 'node:os';

/** @returns what this machine lacks to mount images, each with what to do; empty if all is there */
export function missingRequirements(): string[] {
  const missing: string[] = [];
  if (process.getuid?.() !== 0) missing.push('Mounting needs root: run it again with sudo.');
  const [major, minor] = release()
    .split('.')
    .map((part) => Number.parseInt(part, 10));
  if (major < 6 || (major === 6 && minor < 12))
    missing.push(
      `Linux ${release()} is too old, 6.12 is needed: on Debian 12, install linux-image-amd64 from bookworm-backports and restart.`,
    );
  if (!hasFuse())
    missing.push('There is no /dev/fuse: run `modprobe fuse`, or start the container with `--device /dev/fuse`.');
  return missing;
}

function hasFuse(): boolean {
  if (existsSync('/dev/fuse')) return true;
  try {
    execFileSync('modprobe', ['fuse'], { stdio: 'ignore' });
  } catch {
    // No modprobe, or no module: the file tells.
  }
  return existsSync('/dev/fuse');
}

/** f_type of tmpfs, ramfs and overlayfs (linux/magic.h): EROFS cannot be backed by their files, which have no page cache reads. */
const UNFIT = new Set([0x01021994, 0x858458f6, 0x794c7630]);

/**
 * @param candidates directories, best first; undefined ones are passed over
 * @returns the first that exists and can hold a cache
 * @throws Error with what to do
 */
export function fitDirectory(candidates: readonly (string | undefined)[]): string {
  const existing = candidates.filter((path): path is string => path !== undefined && existsSync(path));
  const fit = existing.find((path) => !UNFIT.has(statfsSync(path).type));
  if (fit !== undefined) return fit;
  throw new Error(
    `${existing.join(', ')}: on tmpfs or overlayfs, where the kernel cannot mount images from; set TMPDIR to a directory on a disk.`,
  );
}
