/** The tree-use job: whether anything still uses a FUSE tree whose mount is gone. */
import { readFileSync } from 'node:fs';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
import { TREES } from '../fuse/driver.ts';
import { treeName } from '../fuse/forest.ts';
import { dropName, isRemembered, prune } from '../fuse/notify.ts';
import type { JobResult } from '../threads/job.ts';

export interface TreeUseRequest {
  fuseFd: number;
  /** Where the tree's inode numbers begin. */
  first: number;
  /** Path. */
  bootstrap: string;
}

/** @returns an inode of the tree that is in use; undefined if there is none */
export function run({ fuseFd, first, bootstrap }: TreeUseRequest): JobResult<number | undefined> {
  const inos: number[] = [];
  walkTree(openErofs(readFileSync(bootstrap)), (visit) => {
    if (visit.first) inos.push(first + visit.inode.nid);
  });
  // What is only remembered goes; what is open, mounted or below an overlay stays. Directories came before what is in them.
  if (!prune(fuseFd, inos.toReversed())) dropName(fuseFd, TREES, treeName(first));
  return { output: inos.find((ino) => isRemembered(fuseFd, ino)) };
}
