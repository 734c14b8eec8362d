import { fsync } from 'node:fs';
import { chmod, chown, lstat, mkdir, rename } from 'node:fs/promises';
import { promisify } from 'node:util';
import type { Owner } from './lazy.ts';

/** Every change to the directories of snapshots, but deleting. Tests put their own in its place, which fails at each step in turn. */
export interface Disk {
  /** Makes one directory; the mode is cut by the process's mask. */
  mkdir(path: string, mode: number): Promise<void>;
  chmod(path: string, mode: number): Promise<void>;
  chown(path: string, uid: number, gid: number): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** fsync(2) of a directory: the names in it are durable. */
  syncDirectory(descriptor: number): Promise<void>;
  owner(path: string): Promise<Owner>;
}

export const localDisk: Disk = {
  mkdir: (path, mode) => mkdir(path, { mode }).then(() => undefined),
  chmod,
  chown,
  rename,
  syncDirectory: promisify(fsync),
  owner: async (path) => {
    const { uid, gid } = await lstat(path);
    return { uid, gid };
  },
};
