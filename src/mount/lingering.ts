import type { Cache, StoredMount } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/fetcher.ts';
import type { AttachedImage } from './attach.ts';

/**
 * Images that outlive their mount: an overlay, a bind mount or an open file still reads them. They are served until the
 * kernel has dropped the super block (of a FUSE tree, its inodes), by the next daemon too: the catalogue keeps them among
 * the mounts.
 */
export interface Lingering {
  /** Takes over an image whose mount is gone; gives it back at once if nothing uses it. */
  take(stored: StoredMount, image: AttachedImage): Promise<void>;
  /** The same for one that an earlier daemon took: whether it is still in use is found out later, when FUSE is served. */
  takeAgain(stored: StoredMount, image: AttachedImage): void;
}

const SWEEP_MS = 1_000;

/** @param isUsed true if something still reads through a mount that is gone */
export function createLingering(
  cache: Cache,
  isUsed: (stored: StoredMount) => Promise<boolean>,
  log: FetchContext['log'],
): Lingering {
  const held = new Map<string, { stored: StoredMount; image: AttachedImage }>();
  let sweeping = false;

  async function take(stored: StoredMount, image: AttachedImage): Promise<void> {
    if (!(await isUsed(stored))) {
      await image.release();
      return;
    }
    const name = nameOf(stored);
    hold(name, stored, image);
    cache.putMount({ ...stored, directory: name, unmounted: true });
    log('info', 'unmounted, but still in use: served until that ends', {
      directory: stored.directory,
      image: stored.reference,
    });
  }

  function hold(name: string, stored: StoredMount, image: AttachedImage): void {
    held.set(name, { stored, image });
    if (sweeping) return;
    sweeping = true;
    setTimeout(sweep, SWEEP_MS).unref();
  }

  async function sweep(): Promise<void> {
    for (const [name, { stored, image }] of held) {
      try {
        if ((await isUsed(stored)) || !held.delete(name)) continue;
        cache.removeMount(name);
        await image.release();
      } catch (error) {
        log('error', 'cannot give blobs back', { image: image.stored.reference, error: (error as Error).message });
      }
    }
    sweeping = held.size > 0;
    if (sweeping) setTimeout(sweep, SWEEP_MS).unref();
  }

  return { take, takeAgain: (stored, image) => hold(stored.directory, stored, image) };
}

/** Stands in the catalogue where a mount has its directory. */
function nameOf({ superBlock, tree }: StoredMount): string {
  return `unmounted:${superBlock ?? tree}`;
}
