/** The trace job: which files a trace is about, in its order. */
import { readFileSync } from 'node:fs';
import { chunkAddressOffset, LAYOUT_CHUNK_BASED, S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
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
  const found: { order: number; offset: number; path: string }[] = [];
  walkTree(erofs, (visit) => {
    const { inode } = visit;
    if ((inode.mode & S_IFMT) !== S_IFREG || inode.layout !== LAYOUT_CHUNK_BASED || inode.size === 0 || !visit.first)
      return;
    const at = chunkAddressOffset(inode);
    const blob = (erofs.view.getUint16(at + 2, true) & 0xff) - 1;
    const offset = erofs.view.getUint32(at + 4, true) * BLOCK_SIZE;
    const order = trace.findIndex(
      (range) => range.blob === blob && range.offset <= offset && offset < range.offset + range.length,
    );
    if (order >= 0) found.push({ order, offset, path: visit.path().toString('utf8') });
  });
  found.sort((a, b) => a.order - b.order || a.offset - b.offset);
  return { output: found.map(({ path }) => path) };
}
