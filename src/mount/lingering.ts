import type { Cache, StoredMount } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { AttachedImage } from './attach.ts';

/**
 * Images that outlive their mount: an overlay, a bind mount or an open file still reads them. They are served until the
 * kernel has dropped the super block (of a FUSE tree, its inodes), by the next daemon too: the catalogue keeps them among
 * the mounts.
 */
export interface Lingering {
  /** Takes over an image whose mount is gone, in the catalogue too; gives it back at once if nothing uses it. */
  take(stored: StoredMount, image: AttachedImage): Promise<void>;
  /** The same before FUSE is served: whether it is still in use is found out later. Also for what an earlier daemon took. */
  takeAgain(stored: StoredMount, image: AttachedImage): void;
}

interface Held {
  stored: StoredMount;
  image: AttachedImage;
  /** What it was as a mount, while the catalogue still says so. */
  former?: StoredMount;
  /** Nobody can tell whether it is in use, or the catalogue cannot forget it; said once. */
  unclear: boolean;
}

const SWEEP_MS = 1_000;

/** @param isUsed true if something still reads through a mount that is gone */
export function createLingering(
  cache: Cache,
  isUsed: (stored: StoredMount) => Promise<boolean>,
  log: FetchContext['log'],
): Lingering {
  const held = new Set<Held>();
  let sweeping = false;

  /** Kept before anybody knows whether it is needed: a daemon that starts just then finds it. */
  function keep(stored: StoredMount, image: AttachedImage): Held {
    const entry: Held = stored.unmounted
      ? { stored, image, unclear: false }
      : { stored: unmounted(stored), image, former: stored, unclear: false };
    held.add(entry);
    try {
      if (!stored.unmounted) cache.putMount(entry.stored);
      forgetFormer(entry);
    } catch (error) {
      log('warn', 'the catalogue has an old entry of a mount', {
        directory: stored.directory,
        error: messageOf(error),
      });
    }
    return entry;
  }

  function forgetFormer(entry: Held): void {
    const { former } = entry;
    if (former === undefined) return;
    // Another mount may have come to the same place.
    const isThere = cache
      .mounts()
      .some(({ directory, since }) => directory === former.directory && since === former.since);
    if (isThere) cache.removeMount(former.directory);
    entry.former = undefined;
  }

  async function take(stored: StoredMount, image: AttachedImage): Promise<void> {
    const entry = keep(stored, image);
    const isUsed = await staysInUse(entry);
    if (!isUsed && (await giveBack(entry))) return;
    sweepLater();
    if (!isUsed) return;
    log('info', 'unmounted, but still in use: served until that ends', {
      directory: stored.directory,
      image: stored.reference,
    });
  }

  function takeAgain(stored: StoredMount, image: AttachedImage): void {
    keep(stored, image);
    sweepLater();
  }

  async function staysInUse(entry: Held): Promise<boolean> {
    try {
      return await isUsed(entry.stored);
    } catch (error) {
      if (!entry.unclear)
        log('error', 'cannot tell whether an image is still in use: it is served on', {
          image: entry.stored.reference,
          error: messageOf(error),
        });
      entry.unclear = true;
      return true;
    }
  }

  /**
   * The mount is gone whatever goes wrong here, so nothing is thrown.
   * @returns false if the catalogue takes nothing just now (a full disk): it is held until it does
   */
  async function giveBack(entry: Held): Promise<boolean> {
    const image = entry.stored.reference;
    try {
      forgetFormer(entry);
      cache.removeMount(entry.stored.directory);
    } catch (error) {
      if (!entry.unclear) log('error', 'the catalogue keeps a mount that is gone', { image, error: messageOf(error) });
      entry.unclear = true;
      return false;
    }
    held.delete(entry);
    await entry.image
      .release()
      .catch((error) => log('error', 'cannot give blobs back', { image, error: messageOf(error) }));
    return true;
  }

  function sweepLater(): void {
    if (sweeping) return;
    sweeping = true;
    setTimeout(sweep, SWEEP_MS).unref();
  }

  async function sweep(): Promise<void> {
    for (const entry of held) {
      if (!(await staysInUse(entry))) await giveBack(entry);
    }
    sweeping = false;
    if (held.size > 0) sweepLater();
  }

  return { take, takeAgain };
}

/** In the catalogue a name of its own stands in the place of the directory, which may be mounted on again. */
function unmounted(stored: StoredMount): StoredMount {
  return { ...stored, directory: `unmounted:${stored.since}:${stored.directory}`, unmounted: true };
}

const messageOf = (error: unknown) => (error as Error).message;
