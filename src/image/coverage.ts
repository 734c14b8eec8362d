import type { FrameTable } from './image.ts';

/**
 * Most frames that may lie over one stored byte. Contexts of a gzip stream begin at the start of the block that holds
 * their first chunk, so two of neighbouring ones share some bytes (RAFS builders: never three). More would let an image
 * ask for many times its stored size.
 */
const MOST_CONTEXTS = 4;

/** Frames that may lie over one byte of this table's object. */
export function coverageLimit(frames: Pick<FrameTable, 'contexts'>): number {
  return frames.contexts === undefined ? 1 : MOST_CONTEXTS;
}

/**
 * Checks that ranges come in ascending order, no two from the same place on, and at most `limit` over any byte.
 * @returns takes one range after another; false where one breaks the rule (also for NaN)
 */
export function createCoverage(limit: number): (offset: number, size: number) => boolean {
  /** How far the ranges up to each of the last `limit` ones reach: a ring. */
  const reach = new Float64Array(limit);
  let last = -1;
  let slot = 0;
  return (offset, size) => {
    if (!(offset > last && offset >= reach[slot])) return false;
    const previous = reach[(slot + limit - 1) % limit];
    reach[slot] = Math.max(previous, offset + size);
    slot = (slot + 1) % limit;
    last = offset;
    return true;
  };
}
