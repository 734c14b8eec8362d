import { realpath, stat } from 'node:fs/promises';
import type { Cache, MountKind, StoredMount } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { AttachedImage } from './attach.ts';
import { createLingering } from './lingering.ts';
import { type MountEntry, mountOn, readMounts } from './mountinfo.ts';
import type { Ways } from './ways.ts';

/** The mounts of this daemon: made, taken away, and found again after a start. */
export interface Mounts {
  /**
   * Mounts an attached image, which belongs to the mount from now on. On failure nothing is left behind.
   */
  add(image: AttachedImage, directory: string, options?: AddOptions): Promise<ActiveMount>;
  /**
   * Overlays and bind mounts above are served until they end.
   * @param force detaches a mount that is in use; its readers are served likewise
   */
  remove(directory: string, force: boolean): Promise<void>;
  /** The mount on a directory; one that somebody else unmounted is given up. */
  find(directory: string): Promise<ActiveMount | undefined>;
  list(): ActiveMount[];
  /** True if a mount is where it should be. */
  isThere(mount: ActiveMount, entries: MountEntry[]): boolean;
  /**
   * Takes up the mounts that the catalogue remembers, before FUSE is served.
   * Those that are still there are served on, if the FUSE connection outlived the last daemon.
   * @returns mounts the others again; for when FUSE is served, because mounting reads through it
   */
  restore(reopen: Reopen): Promise<() => Promise<void>>;
}

export interface AddOptions {
  /** How; by default by EROFS, and as a FUSE tree where the kernel cannot. */
  via?: MountKind | 'auto';
  /** Device nodes and set-uid programs work: for the roots of containers, where the runtime guards them. */
  allowDevices?: boolean;
  /** As it was attached. */
  strict?: boolean;
}

/** Opens an image that the catalogue knows. @param living the kernel has it mounted */
export type Reopen = (mount: StoredMount, living: boolean) => Promise<AttachedImage>;

export interface ActiveMount {
  readonly stored: StoredMount;
  readonly image: AttachedImage;
}

export function createMounts(cache: Cache, ways: Ways, log: FetchContext['log']): Mounts {
  const active = new Map<string, ActiveMount>();
  const busy = new Set<string>();
  const lingering = createLingering(cache, (stored) => ways[stored.kind].isUsed(stored), log);

  async function add(image: AttachedImage, wanted: string, options: AddOptions = {}): Promise<ActiveMount> {
    const { via = 'auto', allowDevices, strict } = options;
    const directory = await mountPoint(wanted);
    return alone(directory, async () => {
      const known = await find(directory);
      if (known !== undefined) throw inUse(directory, known.stored.reference);
      const { reference, digest } = image.stored;
      const wish = { directory, reference, digest, since: Date.now(), allowDevices, strict };
      if (via !== 'auto') return make(image, { ...wish, kind: via });
      try {
        return await make(image, { ...wish, kind: 'erofs' });
      } catch (error) {
        if (!(error instanceof NymphError && error.code === 'unsupported')) throw error;
        log('info', 'mounting as a FUSE tree', { directory, why: error.message });
        return make(image, { ...wish, kind: 'fuse', reason: error.message });
      }
    });
  }

  async function make(image: AttachedImage, wish: StoredMount): Promise<ActiveMount> {
    const { directory, kind } = wish;
    const stored = { ...wish, ...(await ways[kind].serve(image)) };
    if (ways[kind].isThere(mountOn(await readMounts(), directory), stored))
      throw inUse(directory, image.stored.reference);
    // If we die from here on, the next daemon knows of a mount that nobody was told of, and takes it away.
    cache.putMount({ ...stored, pending: true });
    let mounted: StoredMount;
    try {
      mounted = await ways[kind].mount(image, stored);
    } catch (error) {
      cache.removeMount(directory);
      throw error;
    }
    try {
      cache.putMount(mounted);
    } catch (error) {
      await ways[kind].unmount(directory, true);
      throw error;
    }
    const mount: ActiveMount = { stored: mounted, image };
    active.set(directory, mount);
    return mount;
  }

  function isThere({ stored }: ActiveMount, entries: MountEntry[]): boolean {
    return ways[stored.kind].isThere(mountOn(entries, stored.directory), stored);
  }

  async function find(wanted: string): Promise<ActiveMount | undefined> {
    const mount = active.get(await withoutLinks(wanted));
    if (mount === undefined) return undefined;
    if (isThere(mount, await readMounts())) return mount;
    await letGo(mount);
    return undefined;
  }

  /** The mount of an image is gone; two may find that at the same time. */
  async function letGo(mount: ActiveMount): Promise<void> {
    const { stored, image } = mount;
    if (active.get(stored.directory) !== mount) return;
    active.delete(stored.directory);
    image.ending.abort();
    await lingering.take(stored, image);
  }

  /** A mount point as it was named when it was mounted. */
  async function withoutLinks(directory: string): Promise<string> {
    return active.has(directory) ? directory : realpath(directory).catch(() => directory);
  }

  async function remove(wanted: string, force: boolean): Promise<void> {
    const directory = await withoutLinks(wanted);
    await alone(directory, async () => {
      const mount = active.get(directory);
      if (mount === undefined) {
        if (await removeStray(directory, force)) return;
        throw new NymphError('not-found', `nothing of ours is mounted on ${directory}`, {
          hint: '`nymph ls` lists the mounts.',
        });
      }
      await ways[mount.stored.kind].unmount(directory, force);
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
    const known = cache.mounts().find((stored) => stored.directory === directory);
    if (known === undefined) return false;
    const { isThere, unmount } = ways[known.kind];
    if (isThere(mountOn(await readMounts(), directory), known)) await unmount(directory, force);
    cache.removeMount(directory);
    return true;
  }

  async function restore(reopen: Reopen): Promise<() => Promise<void>> {
    const entries = await readMounts();
    const again: (() => Promise<void>)[] = [];
    for (const stored of cache.mounts()) {
      const { directory, reference } = stored;
      const way = ways[stored.kind];
      const alive = way.isAlive(stored);
      const mounted = way.isThere(mountOn(entries, directory), stored);
      // The connection outlived the last daemon, but the mount did not: it went just before or since, and may be in use.
      if (stored.unmounted || (alive && !mounted && !stored.pending)) {
        await takeUpLingering(stored, alive, reopen);
        continue;
      }
      const failed = (error: unknown) => {
        log('error', 'cannot take up a mount', { directory, image: reference, error: (error as Error).message });
        if (!mounted) forget(stored);
      };
      try {
        // Readers of a dead connection have had ENOTCONN since; whoever opens a file now finds it whole.
        if (mounted && (!alive || stored.pending)) await way.unmount(directory, true);
        if (stored.pending) {
          forget(stored);
          log('info', 'took away a mount that was not finished', { directory, image: reference });
          continue;
        }
        const image = await reopen(stored, alive);
        if (alive) await serveOn(stored, image);
        else again.push(() => mountAgain(stored, image).catch(failed));
      } catch (error) {
        failed(error);
      }
    }
    return async () => {
      for (const work of again) await work();
    };
  }

  /** Whoever reads an image whose mount is gone reads through a FUSE connection: without it nothing can be done for them. */
  async function takeUpLingering(stored: StoredMount, alive: boolean, reopen: Reopen): Promise<void> {
    if (!alive) {
      forget(stored);
      return;
    }
    let image: AttachedImage | undefined;
    try {
      image = await reopen(stored, true);
      await ways[stored.kind].serve(image);
      lingering.takeAgain(stored, image);
      log('info', 'a mount is gone: its image is served until nobody uses it', {
        directory: stored.directory,
        image: stored.reference,
      });
    } catch (error) {
      await image?.release();
      log('error', 'cannot serve on what is in use without a mount', {
        image: stored.reference,
        error: (error as Error).message,
      });
      forget(stored);
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

  async function serveOn(stored: StoredMount, image: AttachedImage): Promise<void> {
    const { directory, reference, kind, tree } = stored;
    try {
      if ((await ways[kind].serve(image)).tree !== tree)
        throw new NymphError('cache', `the bootstrap of ${reference} is another than the one that was mounted`);
    } catch (error) {
      await image.release();
      throw error;
    }
    active.set(directory, { stored, image });
    log('info', 'serving a mount on', { directory, image: reference });
  }

  async function mountAgain(stored: StoredMount, image: AttachedImage): Promise<void> {
    const { directory, reference, kind } = stored;
    let mounted: StoredMount;
    try {
      mounted = await ways[kind].mount(image, { ...stored, ...(await ways[kind].serve(image)) });
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
    isThere,
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
