import type { Cache, StoredMount } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/fetcher.ts';
import type { AttachedImage } from './attach.ts';
import { superBlocks } from './super-block.ts';

/**
 * Images that outlive their mount: an overlay, a bind mount or an open file still reads them. They are served until the
 * kernel has dropped the super block, by the next daemon too: the catalogue keeps them among the mounts.
 */
export interface Lingering {
  /** Takes over an image whose mount is gone; gives it back at once if nothing uses it. */
  take(stored: StoredMount, image: AttachedImage): Promise<void>;
}

const SWEEP_MS = 1_000;

export function createLingering(cache: Cache, log: FetchContext['log']): Lingering {
  const held = new Map<string, AttachedImage>();
  let timer: NodeJS.Timeout | undefined;

  async function take(stored: StoredMount, image: AttachedImage): Promise<void> {
    const { superBlock } = stored;
    if (superBlock === undefined || !(await superBlocks()).has(superBlock)) {
      await image.release();
      return;
    }
    held.set(superBlock, image);
    timer ??= setInterval(() => void sweep(), SWEEP_MS).unref();
    cache.putMount({ ...stored, directory: nameOf(superBlock), unmounted: true });
    log('info', 'unmounted, but still in use: served until that ends', {
      directory: stored.directory,
      image: stored.reference,
    });
  }

  async function sweep(): Promise<void> {
    const living = await superBlocks();
    for (const [superBlock, image] of held) {
      if (living.has(superBlock) || !held.delete(superBlock)) continue;
      try {
        cache.removeMount(nameOf(superBlock));
        await image.release();
      } catch (error) {
        log('error', 'cannot give blobs back', { image: image.stored.reference, error: (error as Error).message });
      }
    }
    if (held.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return { take };
}

/** Stands in the catalogue where a mount has its directory. */
function nameOf(superBlock: string): string {
  return `unmounted:${superBlock}`;
}
