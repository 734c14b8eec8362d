import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import { treeName } from '../fuse/forest.ts';
import { TREES_DIRECTORY } from './flat.ts';
import { MS_BIND, MS_NODEV, MS_NOSUID, MS_RDONLY, MS_REMOUNT, mount, umount } from './kernel.ts';
import type { MountEntry } from './mountinfo.ts';

/** A FUSE tree made visible on a directory: a bind mount of its directory in a FUSE file system of ours. */

/** @param first inode number of the tree @param fuseDirectory where the file system is mounted */
export function treePath(fuseDirectory: string, first: number): string {
  return join(fuseDirectory, TREES_DIRECTORY, treeName(first));
}

/**
 * Makes a tree that is served visible on `directory`, read-only. The kernel must know its name already.
 * @param allowDevices device nodes and set-uid programs work
 * @throws NymphError `mount`, `not-found` or `denied`
 */
export async function bindTree(path: string, directory: string, allowDevices = false): Promise<void> {
  const flags = MS_BIND | MS_REMOUNT | MS_RDONLY | (allowDevices ? 0 : MS_NODEV | MS_NOSUID);
  const bound = await mount(path, directory, '', MS_BIND, '');
  if (bound !== undefined) throw bindError(directory, bound);
  // Our file system is mounted without programs, set-uid bits and devices, and a bind mount begins as it is.
  const loosened = await mount('', directory, '', flags, '');
  if (loosened === undefined) return;
  await umount(directory, true);
  throw bindError(directory, loosened);
}

/** True if the mount is that tree, on a connection that may be dead. */
export function isTree(there: MountEntry | undefined, { tree }: { tree?: number }): boolean {
  return there?.type === 'fuse' && there.root === `/${TREES_DIRECTORY}/${tree}`;
}

function bindError(directory: string, refusal: { name: string; message: string }): NymphError {
  const what = `cannot make the FUSE tree visible on ${directory}: ${refusal.message} (${refusal.name})`;
  switch (refusal.name) {
    case 'EPERM':
      return new NymphError('denied', what, { hint: 'Mounting needs root (CAP_SYS_ADMIN).' });
    case 'ENOENT':
    case 'ENOTDIR':
      return new NymphError('not-found', what, { hint: 'The mount point must be a directory that exists.' });
    default:
      return new NymphError('mount', what, { hint: 'dmesg may say more.' });
  }
}
