import type { Visit } from '../../erofs/walk.ts';
import { byPlace, type FileTable, fileTable } from '../../image/file-table.ts';
import type { BlobRange } from '../../image/image.ts';
import { LIBRARY } from './libraries.ts';

const EXECUTABLE = 0o111;
/** An image has thousands; a hostile one could have millions. */
const MOST = 1 << 16;

/** Collects the executables among the files of an image, libraries aside: some distributions mark those, too. */
export function collectExecutables() {
  const found: BlobRange[] = [];

  function file(name: string, range: BlobRange, { inode, first }: Visit): void {
    if (first && (inode.mode & EXECUTABLE) !== 0 && found.length < MOST && !LIBRARY.test(name)) found.push(range);
  }

  function index(): FileTable {
    return fileTable(found.sort(byPlace));
  }

  return { file, index };
}
