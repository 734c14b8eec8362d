/** The job that says whose bytes are at places in the blobs of an image. */
import { readFileSync } from 'node:fs';
import { S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
import { dataRanges } from '../formats/rafs/data-range.ts';
import { wholeBlocks } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';

export interface PlacesRequest {
  /** Path. */
  bootstrap: string;
  /** Few. */
  places: readonly { blob: number; offset: number }[];
}

/** @returns for each place the path of the first file that has it; bytes that are no UTF-8 are replaced */
export function run({ bootstrap, places }: PlacesRequest): JobResult<(string | undefined)[]> {
  const erofs = openErofs(readFileSync(bootstrap));
  const paths: (string | undefined)[] = places.map(() => undefined);
  walkTree(erofs, (visit) => {
    const { inode } = visit;
    if ((inode.mode & S_IFMT) !== S_IFREG || !visit.first || paths.every((path) => path !== undefined)) return;
    for (const { blob, offset, length } of dataRanges(erofs, inode))
      for (const [i, place] of places.entries())
        if (place.blob === blob && place.offset >= offset && place.offset < wholeBlocks(offset + length))
          paths[i] ??= visit.path().toString('utf8');
  });
  return { output: paths };
}
