import { closeSync, constants, lstatSync, opendirSync, openSync, readlinkSync } from 'node:fs';
import type { JobResult } from '../threads/job.ts';

/** The work left to measure one tree. */
export interface Walk {
  /** Absolute paths without links. */
  directories: Uint8Array[];
  /** Inodes with several names that were counted already. */
  linked: bigint[];
  /** Device of the first directory, once it was seen: what is mounted below is not counted. */
  device?: bigint;
}

export interface UsageInput {
  walks: Walk[];
  /** No directory is begun after this time, ms; one is never left in the middle. */
  time: number;
}

/** For each walk what was counted, and what is left. */
export type UsageOutput = (Walk & { size: number; inodes: number })[];

/** `st_blocks` counts these. */
const BLOCK = 512;
const SLASH = Buffer.from('/');

/**
 * Adds up what files below some directories take on disk, as `du` does, some directories at a time. A container may
 * write there meanwhile: what vanishes is not counted, and a link in the place of a directory is not followed.
 */
export function run({ walks, time }: UsageInput): JobResult<UsageOutput> {
  const end = performance.now() + time;
  // The first goes on in any case.
  return { output: walks.map((walk, i) => measure(walk, end, i === 0)) };
}

function measure(walk: Walk, end: number, begin: boolean): UsageOutput[number] {
  const directories = [...walk.directories];
  const counted = new Set(walk.linked);
  let { device } = walk;
  let size = 0;
  let inodes = 0;
  for (let first = begin; first || performance.now() < end; first = false) {
    const next = directories.pop();
    if (next === undefined) break;
    const path = Buffer.from(next);
    const fd = openTrue(path);
    if (fd === undefined) continue;
    const base = Buffer.from(`/proc/self/fd/${fd}/`);
    const listed = opendirSync(base.toString(), { encoding: 'buffer' as BufferEncoding });
    try {
      if (device === undefined) count(Buffer.concat([base, Buffer.from('.')]));
      for (let entry = listed.readSync(); entry !== null; entry = listed.readSync()) {
        const name = entry.name as unknown as Buffer;
        count(Buffer.concat([base, name]), Buffer.concat([path, SLASH, name]));
      }
    } finally {
      listed.closeSync();
      closeSync(fd);
    }
  }
  return { directories, linked: [...counted], device, size, inodes };

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
