import type { ChunkTable } from '../image/image.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import type { Readiness } from './cache.ts';
import { countReady, type ReadyMap } from './ready-map.ts';

/** Blocks of the blob that chunks cover; each chunk begins on a block. */
export function coveredBlocks(chunks: ChunkTable): number {
  let blocks = 0;
  for (let i = 0; i < chunks.count; i++) blocks += Math.ceil(chunks.size[i] / BLOCK_SIZE);
  return blocks;
}

/** Of tables that are asked about again and again: they are replaced, never changed. */
const extents = new WeakMap<ChunkTable, { size: number; covered: number }>();

function extentOf(chunks: ChunkTable): { size: number; covered: number } {
  const known = extents.get(chunks);
  if (known !== undefined) return known;
  let size = 0;
  for (let i = 0; i < chunks.count; i++) size += chunks.size[i];
  const extent = { size, covered: coveredBlocks(chunks) };
  extents.set(chunks, extent);
  return extent;
}

/** How much of a blob is here. */
export function readiness(chunks: ChunkTable, ready: ReadyMap): Readiness {
  const { size, covered } = extentOf(chunks);
  const blocks = Math.min(countReady(ready), covered);
  return { size, ready: covered === 0 ? 0 : blocks === covered ? size : Math.floor((size * blocks) / covered) };
}
