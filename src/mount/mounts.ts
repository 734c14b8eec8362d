import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cache, StoredMount } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/fetcher.ts';
import { type AttachedImage, isComplete } from './attach.ts';
import { mountErofs, unmount } from './erofs.ts';
import { BLOBS_DIRECTORY, blobName } from './flat.ts';
import { MNT_DETACH } from './kernel.ts';
import { mountOn, readMounts } from './mountinfo.ts';

/** The mounts of this daemon: made, taken away, and found again after a start. */
export interface Mounts {
  /** Mounts an attached image, which belongs to the mount from now on. On failure nothing is left behind. */
  add(image: AttachedImage, directory: string): Promise<ActiveMount>;
  /** @param force detaches a mount that is in use; its readers are served until they end. */
  remove(directory: string, force: boolean): Promise<void>;
  get(directory: string): ActiveMount | undefined;
  list(): ActiveMount[];
  /**
   * Takes up the mounts that the catalogue remembers. @param alive true if the FUSE connection outlived the last
   * daemon: mounts that are still there are served on; others are mounted again.
   */
  restore(alive: boolean, reopen: (mount: StoredMount) => Promise<AttachedImage>): Promise<void>;
}

export interface ActiveMount {
  readonly stored: StoredMount;
  readonly image: AttachedImage;
  /** Ends background work for this mount. */
  readonly ending: AbortController;
}

export function createMounts(cache: Cache, fuseDirectory: string, log: FetchContext['log']): Mounts {
  const active = new Map<string, ActiveMount>();
  const busy = new Set<string>();
  /** Images of mounts that were detached while in use: the kernel does not say when their last reader goes. */
  const detached: AttachedImage[] = [];

  async function mountImage(image: AttachedImage, directory: string): Promise<void> {
    const devices = image.blobs.map((blob) =>
      // A complete blob needs no FUSE in the way: 8–10 GB/s page-cold.
      isComplete(blob) ? blob.cached.dataPath : join(fuseDirectory, BLOBS_DIRECTORY, blobName(blob.cached)),
    );
    await mountErofs({ bootstrap: image.bootstrap, devices, directory });
  }

  async function add(image: AttachedImage, wanted: string): Promise<ActiveMount> {
    const directory = await mountPoint(wanted);
    return alone(directory, async () => {
      if (active.has(directory)) throw inUse(directory, active.get(directory)!.stored.reference);
      const there = mountOn(await readMounts(), directory);
      if (there !== undefined && there.source === image.bootstrap) throw inUse(directory, image.stored.reference);
      await mountImage(image, directory);
      const stored: StoredMount = {
        directory,
        reference: image.stored.reference,
        digest: image.stored.digest,
        kind: 'erofs',
        since: Date.now(),
      };
      try {
        cache.putMount(stored);
      } catch (error) {
        await unmount(directory, MNT_DETACH);
        throw error;
      }
      const mount: ActiveMount = { stored, image, ending: new AbortController() };
      active.set(directory, mount);
      return mount;
    });
  }

  async function remove(wanted: string, force: boolean): Promise<void> {
    const directory = active.has(wanted) ? wanted : await realpath(wanted).catch(() => wanted);
    await alone(directory, async () => {
      const mount = active.get(directory);
      if (mount === undefined)
        throw new NymphError('not-found', `nothing of ours is mounted on ${directory}`, {
          hint: '`nymph ls` lists the mounts.',
        });
      await unmount(directory, force ? MNT_DETACH : 0);
      mount.ending.abort();
      active.delete(directory);
      cache.removeMount(directory);
      if (force) detached.push(mount.image);
      else await mount.image.release();
    });
  }

  async function alone<T>(directory: string, work: () => Promise<T>): Promise<T> {
    if (busy.has(directory)) throw new NymphError('busy', `${directory} is being mounted or unmounted right now`);
    busy.add(directory);
    try {
      return await work();
    } finally {
      busy.delete(directory);
    }
  }

  async function restore(alive: boolean, reopen: (mount: StoredMount) => Promise<AttachedImage>): Promise<void> {
    const entries = await readMounts();
    for (const stored of cache.mounts()) {
      const { directory } = stored;
      const there = mountOn(entries, directory);
      const mounted = there?.type === 'erofs' && there.source === cache.bootstrapPath(stored.digest);
      try {
        const image = await reopen(stored);
        if (!(alive && mounted)) {
          // Its readers have had ENOTCONN since the connection went; whoever opens a file now finds it whole.
          if (mounted) await unmount(directory, MNT_DETACH);
          await mountImage(image, directory).catch(async (error) => {
            await image.release();
            throw error;
          });
        }
        active.set(directory, { stored, image, ending: new AbortController() });
        log('info', alive && mounted ? 'serving a mount on' : 'mounted again', { directory, image: stored.reference });
      } catch (error) {
        log('error', 'cannot take up a mount', { directory, image: stored.reference, error: (error as Error).message });
        if (!mounted) cache.removeMount(directory);
      }
    }
  }

  return {
    add,
    remove,
    get: (directory) => active.get(directory),
    list: () => [...active.values()],
    restore,
  };
}

function inUse(directory: string, reference: string): NymphError {
  return new NymphError('busy', `${directory} is a mount of ${reference} already`, {
    hint: `Unmount it first: nymph umount ${directory}`,
  });
}

async function mountPoint(directory: string): Promise<string> {
  try {
    const path = await realpath(directory);
    if ((await stat(path)).isDirectory()) return path;
  } catch (error) {
    throw new NymphError('not-found', `${directory}: ${(error as Error).message}`, {
      hint: 'Create the directory first.',
    });
  }
  throw new NymphError('usage', `${directory} is not a directory`);
}
