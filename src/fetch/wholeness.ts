import type { CachedBlob } from '../cache/cache.ts';
import { coveredBlocks } from '../cache/readiness.ts';
import { countReady } from '../cache/ready-map.ts';

/** How much of one blob is here, by its tables as they are at the time. */
export interface Wholeness {
  isWhole(): boolean;
  /** What is not, of all: 0 to 1. */
  missing(): number;
}

export function createWholeness(blob: CachedBlob): Wholeness {
  let covered: { chunks: unknown; blocks: number } | undefined;

  function blocks(): number {
    if (covered?.chunks !== blob.chunks) covered = { chunks: blob.chunks, blocks: coveredBlocks(blob.chunks) };
    return covered.blocks;
  }

  return {
    isWhole: () => countReady(blob.ready) >= blocks(),
    missing: () => Math.max(0, 1 - countReady(blob.ready) / Math.max(1, blocks())),
  };
}
