import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/fetcher.ts';
import type { Attributes, DirectoryEntry, FileSystem } from '../fuse/driver.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/**
 * The flat FUSE file system: `/blobs/<inode number>`, one file for each open blob. Inode numbers come from the catalogue and
 * never change their meaning, so a daemon that starts again on the same connection knows what the kernel remembers. For
 * the same reason they are the names: a blob that was evicted and fetched anew has another number, and the kernel
 * remembers for a day which inode a name meant.
 */

const ROOT = 1;
const BLOBS = 2;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** Name of the directory that holds the blobs. */
export const BLOBS_DIRECTORY = 'blobs';

/** Name of a blob in that directory. */
export function blobName(cached: { ino: number }): string {
  return String(cached.ino);
}

export function createFlatFileSystem(blobs: ServedBlobs, log: FetchContext['log']): FileSystem {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();

  function attributes(served: ServedBlob): Attributes {
    return node(served.cached.ino, S_IFREG | 0o400, served.cached.size);
  }

  return {
    lookup(parent, name) {
      const text = decoder.decode(name);
      if (parent === ROOT) return text === BLOBS_DIRECTORY ? node(BLOBS, S_IFDIR | 0o500, 0) : undefined;
      const served = parent === BLOBS && /^[1-9]\d{0,15}$/.test(text) ? blobs.byIno(Number(text)) : undefined;
      return served && attributes(served);
    },
    getattr(ino) {
      if (ino === ROOT || ino === BLOBS) return node(ino, S_IFDIR | 0o500, 0);
      const served = blobs.byIno(ino);
      return served && attributes(served);
    },
    readdir(ino) {
      if (ino === ROOT) return [entry(BLOBS_DIRECTORY, BLOBS, S_IFDIR)];
      if (ino === BLOBS) return blobs.list().map(({ cached }) => entry(blobName(cached), cached.ino, S_IFREG));
      return undefined;
    },
    async read(ino, offset, length, signal) {
      const served = blobs.byIno(ino);
      if (served === undefined) throw new NymphError('not-found', `no blob is open as inode ${ino}`);
      try {
        return await blobs.read(served, offset, length, signal);
      } catch (error) {
        if (!(error instanceof NymphError && error.code === 'cancelled'))
          log('error', 'a read failed', { blob: served.cached.key, offset, length, error: (error as Error).message });
        throw error;
      }
    },
    reached(ino, offset) {
      blobs.byIno(ino)?.fetcher.reached(offset);
    },
  };

  function entry(name: string, ino: number, type: number): DirectoryEntry {
    return { name: encoder.encode(name), ino, type };
  }
}

function node(ino: number, mode: number, size: number): Attributes {
  return { ino, mode, nlink: 1, uid: 0, gid: 0, rdev: 0, size, mtime: 0, mtimeNs: 0 };
}
