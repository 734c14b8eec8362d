/** The trace job: which files a trace is about, in its order. */
import { readFileSync } from 'node:fs';
import { S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
import { dataRange } from '../formats/rafs/data-range.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import type { Trace } from '../image/trace.ts';
import type { JobResult } from '../threads/job.ts';

export interface TraceFilesRequest {
  /** Path. */
  bootstrap: string;
  trace: Trace;
}

/** @returns paths of files that begin in a range of the trace, each once; bytes that are no UTF-8 are replaced */
export function run({ bootstrap, trace }: TraceFilesRequest): JobResult<string[]> {
  const erofs = openErofs(readFileSync(bootstrap));
  const orders = orderOfBlocks(trace);
  const found: { order: number; path: string }[] = [];
  walkTree(erofs, (visit) => {
    const { inode } = visit;
    if ((inode.mode & S_IFMT) !== S_IFREG || !visit.first) return;
    const data = dataRange(erofs, inode);
    const order = data && orders.get(keyOf(data.blob, data.offset / BLOCK_SIZE));
    if (order !== undefined) found.push({ order, path: visit.path().toString('utf8') });
  });
  found.sort((a, b) => a.order - b.order);
  return { output: found.map(({ path }) => path) };
}

/** Of each block of a trace when it was read first. A trace has a limit in bytes; its ranges and an image's files could be many. */
function orderOfBlocks(trace: Trace): Map<number, number> {
  const orders = new Map<number, number>();
  for (const { blob, offset, length } of trace)
    for (let block = offset / BLOCK_SIZE; block * BLOCK_SIZE < offset + length; block++) {
      const key = keyOf(blob, block);
      if (!orders.has(key)) orders.set(key, orders.size);
    }
  return orders;
}

function keyOf(blob: number, block: number): number {
  return blob * 2 ** 32 + block;
}
