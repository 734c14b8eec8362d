/** The job that finds files by their names: which ranges of an image's blobs hold them. */
import { readFileSync } from 'node:fs';
import { S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { walkTree } from '../erofs/walk.ts';
import { dataRanges } from '../formats/rafs/data-range.ts';
import type { BlobRange } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';

export interface FilesRangesRequest {
  /** Path. */
  bootstrap: string;
  /** Paths in the image, with or without `/` in front. */
  files: readonly string[];
}

export interface FilesRanges {
  /** In the order of the files. */
  ranges: BlobRange[];
  /** Files that the image does not have as regular ones. */
  missing: string[];
}

export function run({ bootstrap, files }: FilesRangesRequest): JobResult<FilesRanges> {
  const erofs = openErofs(readFileSync(bootstrap));
  const wanted = new Map<string, BlobRange[] | undefined>(files.map((file) => [absolute(file), undefined]));
  walkTree(erofs, ({ inode, path }) => {
    if ((inode.mode & S_IFMT) !== S_IFREG) return;
    const name = path().toString('utf8');
    if (wanted.has(name)) wanted.set(name, dataRanges(erofs, inode));
  });
  const ranges = [...wanted.values()].flatMap((found) => found ?? []);
  return { output: { ranges, missing: files.filter((file) => wanted.get(absolute(file)) === undefined) } };
}

function absolute(path: string): string {
  return path.startsWith('/') ? path : `/${path}`;
}
