import { mkdir, readlink, realpath, rmdir } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { NymphError } from '../errors.ts';

/**
 * Makes a directory to mount on, parents too, as `mkdir -p` does.
 * @returns its real absolute path, as the kernel's mount table will show it, and how to take back what was made
 * @throws NymphError `mount` if it cannot be made or is no directory
 */
export async function makeDirectory(directory: string): Promise<{ path: string; undo: () => Promise<void> }> {
  const path = resolve(directory);
  try {
    const first = await mkdir(path, { recursive: true });
    return { path: await realpath(path), undo: () => removeMade(path, first) };
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    throw new NymphError('mount', `cannot make the directory ${path}: ${code === 'EEXIST' ? 'it is a file' : code}`, {
      hint: 'Name a directory that exists or can be made.',
      cause: error,
    });
  }
}

/** Removes the empty directories from `path` up to `first`, the uppermost that was made. */
async function removeMade(path: string, first: string | undefined): Promise<void> {
  if (first === undefined) return;
  for (let next = path; next.length >= first.length; next = dirname(next)) {
    try {
      await rmdir(next);
    } catch (error) {
      // Somebody put something in, or mounted on it: then it is not ours to remove.
      if (['ENOTEMPTY', 'EEXIST', 'EBUSY', 'ENOENT'].includes((error as NodeJS.ErrnoException).code ?? '')) return;
      throw error;
    }
  }
}

/**
 * The real path of a directory that something may be mounted on, without reading the mounted file system itself: its
 * reads may fail or wait when it is unmounted because of that. Parents that are gone stay as they are.
 */
export async function mountedDirectory(directory: string): Promise<string> {
  let path = resolve(directory);
  // As many links as the kernel follows (path_resolution(7)).
  for (let links = 0; links < 40; links++) {
    const target = await readlink(path).catch(() => undefined);
    if (target === undefined) break;
    path = resolve(dirname(path), target);
  }
  const parent = await realpath(dirname(path)).catch(() => dirname(path));
  return join(parent, basename(path));
}

/** True if a command's argument means a directory and not a reference: it starts with `/`, `./` or `../`, or is `.` or `..`. */
export function looksLikeDirectory(text: string): boolean {
  return /^(?:\/|\.\.?(?:\/|$))/.test(text);
}
