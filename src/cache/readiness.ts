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

/** How much of a blob is here. */
export function readiness(chunks: ChunkTable, ready: ReadyMap): Readiness {
  let size = 0;
  for (let i = 0; i < chunks.count; i++) size += chunks.size[i];
  const covered = coveredBlocks(chunks);
  const blocks = Math.min(countReady(ready), covered);
  return { size, ready: covered === 0 ? 0 : blocks === covered ? size : Math.floor((size * blocks) / covered) };
}
