import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Cache, StoredMount } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/fetcher.ts';
import { type AttachedImage, isComplete } from './attach.ts';
import { fitsOptions, mountErofs, unmount } from './erofs.ts';
import { BLOBS_DIRECTORY, blobName } from './flat.ts';
import { createLingering } from './lingering.ts';
import { mountOn, readMounts } from './mountinfo.ts';
import { namingSuperBlock, widenReadAhead } from './super-block.ts';

/** The mounts of this daemon: made, taken away, and found again after a start. */
export interface Mounts {
  /**
   * Mounts an attached image, which belongs to the mount from now on. On failure nothing is left behind.
   * @param allowDevices device nodes work: for the roots of containers, where the runtime guards them
   */
  add(image: AttachedImage, directory: string, allowDevices?: boolean): Promise<ActiveMount>;
  /**
   * Overlays and bind mounts above are served until they end.
   * @param force detaches a mount that is in use; its readers are served likewise
   */
  remove(directory: string, force: boolean): Promise<void>;
  /** The mount on a directory; one that somebody else unmounted is given up. */
  find(directory: string): Promise<ActiveMount | undefined>;
  list(): ActiveMount[];
  /**
   * Takes up the mounts that the catalogue remembers, before FUSE is served.
   * @param alive true if the FUSE connection outlived the last daemon: mounts that are still there are served on
   * @returns mounts the others again; for when FUSE is served, because mounting reads through it
   */
  restore(alive: boolean, reopen: (mount: StoredMount) => Promise<AttachedImage>): Promise<() => Promise<void>>;
}

export interface ActiveMount {
  readonly stored: StoredMount;
  readonly image: AttachedImage;
}

/** @param lookUp makes the kernel know names below `fuseDirectory`, from a process that does not serve them. */
export function createMounts(
  cache: Cache,
  fuseDirectory: string,
  lookUp: (paths: string[]) => Promise<void>,
  log: FetchContext['log'],
): Mounts {
  const active = new Map<string, ActiveMount>();
  const busy = new Set<string>();
  const lingering = createLingering(cache, log);

  /** @returns `stored`, with the super block that was made */
  async function mountImage(image: AttachedImage, stored: StoredMount): Promise<StoredMount> {
    const { directory, allowDevices } = stored;
    const devices = devicesOf(image);
    const throughFuse = devices.filter((path) => path.startsWith(fuseDirectory));
    await lookUp(throughFuse);
    const superBlock = await namingSuperBlock(() =>
      mountErofs({ bootstrap: image.bootstrap, devices, directory, allowDevices }),
    );
    if (superBlock !== undefined && throughFuse.length === 0) await widenReadAhead(superBlock);
    return { ...stored, superBlock };
  }

  function devicesOf({ blobs }: AttachedImage): string[] {
    const served = blobs.map(({ cached }) => join(fuseDirectory, BLOBS_DIRECTORY, blobName(cached)));
    // A complete blob needs no FUSE in the way: 8–10 GB/s page-cold.
    const direct = blobs.map((blob, i) => (isComplete(blob) ? blob.cached.dataPath : served[i]));
    // Names in the cache are long, and the kernel takes one page of options: some 40 blobs, or 110 by their short names.
    return fitsOptions(direct) ? direct : served;
  }

  async function add(image: AttachedImage, wanted: string, allowDevices?: boolean): Promise<ActiveMount> {
    const directory = await mountPoint(wanted);
    return alone(directory, async () => {
      const known = await find(directory);
      if (known !== undefined) throw inUse(directory, known.stored.reference);
      const there = mountOn(await readMounts(), directory);
      if (there !== undefined && there.source === image.bootstrap) throw inUse(directory, image.stored.reference);
      const wish: StoredMount = {
        directory,
        reference: image.stored.reference,
        digest: image.stored.digest,
        kind: 'erofs',
        since: Date.now(),
        allowDevices,
      };
      // If we die from here on, the next daemon knows of a mount that nobody was told of, and takes it away.
      cache.putMount({ ...wish, pending: true });
      let stored: StoredMount;
      try {
        stored = await mountImage(image, wish);
      } catch (error) {
        cache.removeMount(directory);
        throw error;
      }
      try {
        cache.putMount(stored);
      } catch (error) {
        await unmount(directory, true);
        throw error;
      }
      const mount: ActiveMount = { stored, image };
      active.set(directory, mount);
      return mount;
    });
  }

  async function find(directory: string): Promise<ActiveMount | undefined> {
    const mount = active.get(directory);
    if (mount === undefined) return undefined;
    if (mountOn(await readMounts(), directory)?.source === mount.image.bootstrap) return mount;
    await letGo(mount);
    return undefined;
  }

  /** The mount of an image is gone. */
  async function letGo({ stored, image }: ActiveMount): Promise<void> {
    image.ending.abort();
    active.delete(stored.directory);
    try {
      cache.removeMount(stored.directory);
    } finally {
      await lingering.take(stored, image);
    }
  }

  async function remove(wanted: string, force: boolean): Promise<void> {
    const directory = active.has(wanted) ? wanted : await realpath(wanted).catch(() => wanted);
    await alone(directory, async () => {
      const mount = active.get(directory);
      if (mount === undefined) {
        if (await removeStray(directory, force)) return;
        throw new NymphError('not-found', `nothing of ours is mounted on ${directory}`, {
          hint: '`nymph ls` lists the mounts.',
        });
      }
      await unmount(directory, force);
      await letGo(mount);
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

  /** A mount of our root that we do not serve: an earlier daemon could not take it up. @returns false if there is none */
  async function removeStray(directory: string, force: boolean): Promise<boolean> {
    const there = mountOn(await readMounts(), directory);
    const ours = there?.type === 'erofs' && there.source.startsWith(join(cache.root, 'images/'));
    if (ours) await unmount(directory, force);
    const known = cache.mounts().some((stored) => stored.directory === directory);
    if (known) cache.removeMount(directory);
    return ours || known;
  }

  async function restore(
    alive: boolean,
    reopen: (mount: StoredMount) => Promise<AttachedImage>,
  ): Promise<() => Promise<void>> {
    const entries = await readMounts();
    const again: (() => Promise<void>)[] = [];
    for (const stored of cache.mounts()) {
      const { directory, reference } = stored;
      if (stored.unmounted) {
        await takeUpLingering(stored, alive, reopen);
        continue;
      }
      const there = mountOn(entries, directory);
      const mounted = there?.type === 'erofs' && there.source === cache.bootstrapPath(stored.digest);
      const failed = (error: unknown) => {
        log('error', 'cannot take up a mount', { directory, image: reference, error: (error as Error).message });
        if (!mounted) forget(stored);
      };
      try {
        // Readers of a dead connection have had ENOTCONN since; whoever opens a file now finds it whole.
        if (mounted && (!alive || stored.pending)) await unmount(directory, true);
        // The connection outlived the last daemon, but the mount did not: somebody unmounted it.
        if (stored.pending || (alive && !mounted)) {
          forget(stored);
          log('info', stored.pending ? 'took away a mount that was not finished' : 'a mount is gone', {
            directory,
            image: reference,
          });
          continue;
        }
        const image = await reopen(stored);
        const mount: ActiveMount = { stored, image };
        if (alive) serveOn(mount);
        else again.push(() => mountAgain(mount).catch(failed));
      } catch (error) {
        failed(error);
      }
    }
    return async () => {
      for (const work of again) await work();
    };
  }

  /** Whoever reads an image whose mount is gone reads through a FUSE connection: without it nothing can be done for them. */
  async function takeUpLingering(
    stored: StoredMount,
    alive: boolean,
    reopen: (mount: StoredMount) => Promise<AttachedImage>,
  ): Promise<void> {
    forget(stored);
    if (!alive) return;
    try {
      await lingering.take(stored, await reopen(stored));
    } catch (error) {
      log('error', 'cannot serve on what is in use without a mount', {
        image: stored.reference,
        error: (error as Error).message,
      });
    }
  }

  function remember(stored: StoredMount): void {
    try {
      cache.putMount(stored);
    } catch (error) {
      log('warn', 'the catalogue has an old entry of a mount', {
        directory: stored.directory,
        error: (error as Error).message,
      });
    }
  }

  /** A catalogue that cannot be written (a full disk) must not keep the other mounts from being served. */
  function forget({ directory }: StoredMount): void {
    try {
      cache.removeMount(directory);
    } catch (error) {
      log('warn', 'a mount that is gone stays in the catalogue', { directory, error: (error as Error).message });
    }
  }

  function serveOn(mount: ActiveMount): void {
    active.set(mount.stored.directory, mount);
    log('info', 'serving a mount on', { directory: mount.stored.directory, image: mount.stored.reference });
  }

  async function mountAgain({ stored, image }: ActiveMount): Promise<void> {
    const { directory, reference } = stored;
    let mounted: StoredMount;
    try {
      mounted = await mountImage(image, stored);
    } catch (error) {
      await image.release();
      throw error;
    }
    active.set(directory, { stored: mounted, image });
    remember(mounted);
    log('info', 'mounted again', { directory, image: reference });
  }

  return {
    add,
    remove,
    find,
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
