/** The drop-pages job: has the kernel forget what it has read of a blob, alone and as a file of FUSE trees. */
import { readFileSync } from 'node:fs';
import { chunkAddressOffset, LAYOUT_CHUNK_BASED } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
import { dropPages } from '../fuse/notify.ts';
import type { JobResult } from '../threads/job.ts';

export interface DropPagesRequest {
  fuseFd: number;
  /** Inode number of the blob. */
  ino: number;
  /** The trees that have files in it. */
  trees: BlobUse[];
}

export interface BlobUse {
  /** Where the tree's inode numbers begin. */
  first: number;
  /** Path. */
  bootstrap: string;
  /** What the chunk addresses of the tree call the blob: its position, from 1 on. */
  device: number;
}

/** It may wait for reads that are under way: not for the threads that answer them. */
export function run({ fuseFd, ino, trees }: DropPagesRequest): JobResult<undefined> {
  dropPages(fuseFd, ino);
  for (const { first, bootstrap, device } of trees) {
    const erofs = openErofs(readFileSync(bootstrap));
    walkTree(erofs, ({ inode, first: isFirst }) => {
      if (!isFirst || inode.layout !== LAYOUT_CHUNK_BASED || inode.size === 0) return;
      // Files of trees without a device table are one extent each.
      if (erofs.view.getUint16(chunkAddressOffset(inode) + 2, true) === device) dropPages(fuseFd, first + inode.nid);
    });
  }
  return { output: undefined };
}
