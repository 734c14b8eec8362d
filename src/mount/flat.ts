import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { type Attributes, type DirectoryEntry, type Extent, type FileSystem, TREES, ZEROS } from '../fuse/driver.ts';
import { treeName } from '../fuse/forest.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/**
 * The upper part of our FUSE file systems: `/blobs/<inode number>`, a flat file for each open blob, and
 * `/trees/<inode number>`, the tree of each image that is mounted by FUSE, which the driver answers for. Inode numbers
 * come from the catalogue and never change their meaning, so a daemon that starts again on the same connection knows
 * what the kernel remembers. For the same reason they are the names: a blob that was evicted and fetched anew has another
 * number, and the kernel remembers for a day which inode a name meant.
 *
 * Only root looks in from above: other users come to a tree by the bind mount of its image, and to a blob by EROFS.
 */

const ROOT = 1;
const BLOBS = 2;
const S_IFDIR = 0o040000;
const S_IFREG = 0o100000;

/** Names of the directories that hold the blobs and the trees. */
export const BLOBS_DIRECTORY = 'blobs';
export const TREES_DIRECTORY = 'trees';

const TOP = { [BLOBS_DIRECTORY]: BLOBS, [TREES_DIRECTORY]: TREES } as const;

/** Name of a blob in its directory. */
export function blobName(cached: { ino: number }): string {
  return String(cached.ino);
}

/** @param trees inode numbers of the trees that are served now */
export function createFlatFileSystem(
  blobs: ServedBlobs,
  trees: () => readonly number[],
  log: FetchContext['log'],
): FileSystem {
  const encoder = new TextEncoder();
  const decoder = new TextDecoder();

  function attributes(served: ServedBlob): Attributes {
    return node(served.cached.ino, S_IFREG | 0o400, served.cached.size);
  }

  return {
    lookup(parent, name) {
      const text = decoder.decode(name);
      if (parent === ROOT) return isTop(text) ? node(TOP[text], S_IFDIR | 0o500, 0) : undefined;
      const served = parent === BLOBS && /^[1-9]\d{0,15}$/.test(text) ? blobs.byIno(Number(text)) : undefined;
      return served && attributes(served);
    },
    getattr(ino) {
      if (ino === ROOT || ino === BLOBS || ino === TREES) return node(ino, S_IFDIR | 0o500, 0);
      const served = blobs.byIno(ino);
      return served && attributes(served);
    },
    readdir(ino, from, visit) {
      const entries = list(ino);
      for (let i = from; entries !== undefined && i < entries.length; i++)
        if (!visit({ ...entries[i], next: i + 1 })) break;
      return entries !== undefined;
    },
    async read(extents, signal) {
      const parts = await Promise.all(extents.map((extent) => readExtent(extent, signal)));
      return parts.flat();
    },
    reached(ino, offset) {
      blobs.seen(ino, offset);
      blobs.byIno(ino)?.fetcher.reached(offset);
    },
  };

  function list(ino: number): Omit<DirectoryEntry, 'next'>[] | undefined {
    switch (ino) {
      case ROOT:
        return Object.entries(TOP).map(([name, top]) => entry(name, top, S_IFDIR));
      case BLOBS:
        return blobs.list().map(({ cached }) => entry(blobName(cached), cached.ino, S_IFREG));
      case TREES:
        return trees().map((first) => entry(treeName(first), first, S_IFDIR));
      default:
        return undefined;
    }
  }

  function entry(name: string, ino: number, type: number): Omit<DirectoryEntry, 'next'> {
    return { name: encoder.encode(name), ino, type };
  }

  async function readExtent({ ino, offset, length }: Extent, signal: AbortSignal): Promise<Uint8Array[]> {
    if (ino === ZEROS) return [new Uint8Array(length)];
    const served = blobs.byIno(ino);
    if (served === undefined) throw new NymphError('not-found', `no blob is open as inode ${ino}`);
    blobs.seen(ino, offset);
    try {
      return await blobs.read(served, offset, length, signal);
    } catch (error) {
      if (!(error instanceof NymphError && error.code === 'cancelled'))
        log('error', 'a read failed', {
          ...{ blob: served.cached.key, offset, length, error: (error as Error).message },
          ...(error instanceof NymphError && error.hint !== undefined && { hint: error.hint }),
        });
      throw error;
    }
  }
}

function isTop(name: string): name is keyof typeof TOP {
  return Object.hasOwn(TOP, name);
}

function node(ino: number, mode: number, size: number): Attributes {
  return { ino, mode, nlink: 1, uid: 0, gid: 0, rdev: 0, size, mtime: 0, mtimeNs: 0 };
}
