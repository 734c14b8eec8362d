import { closeSync, constants, opendirSync, openSync, readdirSync, renameSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import type { JobResult } from '../threads/job.ts';

export interface RemovalInput {
  /** Directory whose entries are to go. */
  trash: string;
  /** Names in it that would not go, by earlier answers. */
  stuck: readonly string[];
  /** Names of the caller's choice begin with this; unique to the call. */
  prefix: string;
  /** It stops at the first entry after this time, ms. */
  time: number;
}

export interface RemovalOutput {
  done: boolean;
  stuck: string[];
  /** Why the last one would not go. */
  why?: string;
}

/**
 * Empties a directory, some entries at a time. The trees in it may still be written by a container that uses them, so no
 * path is walked: each directory is opened without following links, its entries are named by its descriptor, and
 * subdirectories that are not empty are moved up into the trash, which nobody else can reach. So a link that appears in
 * the place of a directory leads nowhere, no depth is too deep, and a mount point stays (EBUSY) and is reported.
 */
export function run({ trash, stuck, prefix, time }: RemovalInput): JobResult<RemovalOutput> {
  const given = new Set(stuck);
  const state: State = { trash, prefix, end: performance.now() + time, moved: 0, why: undefined };
  for (;;) {
    const names = readdirSync(trash).filter((name) => !given.has(name));
    if (names.length === 0) return { output: { done: true, stuck: [...given], why: state.why } };
    for (const name of names) {
      if (removeTop(state, name) === 'stuck') given.add(name);
      if (isOver(state)) return { output: { done: false, stuck: [...given], why: state.why } };
    }
  }
}

interface State {
  trash: string;
  prefix: string;
  end: number;
  /** Directories that were moved up. */
  moved: number;
  why: string | undefined;
}

function removeTop(state: State, name: string): 'gone' | 'more' | 'stuck' {
  const path = join(state.trash, name);
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  } catch (error) {
    // Anything but a directory.
    return attempt(state, () => unlinkSync(path)) ? 'gone' : fail(state, error);
  }
  try {
    const { progress, end } = removeEntries(state, fd);
    if (!end) return progress ? 'more' : 'stuck';
  } finally {
    closeSync(fd);
  }
  return attempt(state, () => rmdirSync(path)) ? 'gone' : 'stuck';
}

/** Removes entries of an open directory while there is time. `end`: all were seen, and each is gone or out of the way. */
function removeEntries(state: State, fd: number): { progress: boolean; end: boolean } {
  const base = Buffer.from(`/proc/self/fd/${fd}/`);
  let progress = false;
  let kept = false;
  const directory = opendirSync(base.toString(), { encoding: 'buffer' as BufferEncoding });
  try {
    for (let entry = directory.readSync(); entry !== null; entry = directory.readSync()) {
      const path = Buffer.concat([base, entry.name as unknown as Buffer]);
      if (entry.isDirectory() ? removeDirectory(state, path) : attempt(state, () => unlinkSync(path))) progress = true;
      else kept = true;
      if (progress && isOver(state)) return { progress, end: false };
    }
  } finally {
    directory.closeSync();
  }
  return { progress, end: !kept };
}

function isOver({ end }: State): boolean {
  return performance.now() >= end;
}

function removeDirectory(state: State, path: Buffer): boolean {
  try {
    rmdirSync(path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOTEMPTY') return attempt(state, () => rmdirSync(path));
  }
  return attempt(state, () => renameSync(path, join(state.trash, `${state.prefix}${state.moved++}`)));
}

function attempt(state: State, act: () => void): boolean {
  try {
    act();
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return true;
    fail(state, error);
    return false;
  }
}

function fail(state: State, error: unknown): 'stuck' {
  state.why = (error as Error).message;
  return 'stuck';
}
