import { closeSync, constants, lstatSync, opendirSync, openSync, readlinkSync } from 'node:fs';
import type { JobResult } from '../threads/job.ts';

export interface UsageInput {
  /** Device of the first directory: what is mounted below is not counted. */
  device?: bigint;
  /** Absolute paths without links. */
  directories: readonly Buffer[];
  /** Inodes with several names that were counted already. */
  linked: readonly bigint[];
  /** No directory is begun after this many entries; one is never left in the middle. */
  budget: number;
}

export interface UsageOutput {
  device?: bigint;
  size: number;
  inodes: number;
  /** What is left to be counted. */
  directories: Buffer[];
  linked: bigint[];
}

/** `st_blocks` counts these. */
const BLOCK = 512;
const SLASH = Buffer.from('/');

/**
 * Adds up what files below some directories take on disk, as `du` does, some directories at a time. A container may
 * write there meanwhile: what vanishes is not counted, and a link in the place of a directory is not followed.
 */
export function run(input: UsageInput): JobResult<UsageOutput> {
  const directories = [...input.directories];
  const counted = new Set(input.linked);
  let { device, budget } = input;
  let size = 0;
  let inodes = 0;
  while (budget > 0) {
    const path = directories.pop();
    if (path === undefined) break;
    const fd = openTrue(path);
    if (fd === undefined) continue;
    const base = Buffer.from(`/proc/self/fd/${fd}/`);
    const entries = opendirSync(base.toString(), { encoding: 'buffer' as BufferEncoding });
    try {
      if (device === undefined) count(Buffer.concat([base, Buffer.from('.')]));
      for (let entry = entries.readSync(); entry !== null; entry = entries.readSync()) {
        const name = entry.name as unknown as Buffer;
        count(Buffer.concat([base, name]), Buffer.concat([path, SLASH, name]));
        budget--;
      }
    } finally {
      entries.closeSync();
      closeSync(fd);
    }
  }
  return { output: { device, size, inodes, directories, linked: [...counted] } };

  /** @param below where to go on if it is a directory */
  function count(path: Buffer, below?: Buffer): void {
    const stat = lstatSync(path, { bigint: true, throwIfNoEntry: false });
    if (stat === undefined) return;
    device ??= stat.dev;
    if (stat.dev !== device) return;
    if (stat.nlink > 1n && !stat.isDirectory()) {
      if (counted.has(stat.ino)) return;
      counted.add(stat.ino);
    }
    size += Number(stat.blocks) * BLOCK;
    inodes++;
    if (below !== undefined && stat.isDirectory()) directories.push(below);
  }
}

/** @returns a descriptor of the directory, `undefined` if it is gone or a part of its path is a link by now */
function openTrue(path: Buffer): number | undefined {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'ELOOP') return undefined;
    throw error;
  }
  if (readlinkSync(`/proc/self/fd/${fd}`, { encoding: 'buffer' }).equals(path)) return fd;
  closeSync(fd);
  return undefined;
}
