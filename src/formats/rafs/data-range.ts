import {
  chunkAddressOffset,
  type Inode,
  kernelChunkSize,
  LAYOUT_CHUNK_BASED,
  NULL_BLOCK,
  S_IFMT,
  S_IFREG,
} from '../../erofs/inode.ts';
import { resolvePath } from '../../erofs/resolve.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { BLOCK_SIZE, type BlobRange } from '../../image/image.ts';

/**
 * Where the data of a regular file begins, and how long it is, in a tree that was checked by `readImage`; undefined for
 * one without data in a blob, or that begins with a hole.
 */
export function dataRange({ view }: Erofs, inode: Inode): BlobRange | undefined {
  if (inode.layout !== LAYOUT_CHUNK_BASED || inode.size === 0) return undefined;
  const at = chunkAddressOffset(inode);
  if (view.getUint32(at + 4, true) === NULL_BLOCK) return undefined;
  return {
    blob: (view.getUint16(at + 2, true) & 0xff) - 1,
    offset: view.getUint32(at + 4, true) * BLOCK_SIZE,
    length: inode.size,
  };
}

/**
 * The same for the regular file that a path leads to, through links.
 * @param mode bits of which one must be set, if there are any
 */
export function dataAt(erofs: Erofs, path: string, mode = 0): BlobRange | undefined {
  const inode = resolvePath(erofs, path);
  if (inode === undefined || (inode.mode & S_IFMT) !== S_IFREG) return undefined;
  return mode === 0 || (inode.mode & mode) !== 0 ? dataRange(erofs, inode) : undefined;
}

/** All ranges that hold the data of a regular file, in its order; neighbours are joined. Checked as for {@link dataRange}. */
export function dataRanges(erofs: Erofs, inode: Inode): BlobRange[] {
  const ranges: BlobRange[] = [];
  if (inode.layout !== LAYOUT_CHUNK_BASED) return ranges;
  const { view } = erofs;
  const chunk = kernelChunkSize(inode);
  for (let done = 0, at = chunkAddressOffset(inode); done < inode.size; done += chunk, at += 8) {
    const blob = (view.getUint16(at + 2, true) & 0xff) - 1;
    const offset = view.getUint32(at + 4, true) * BLOCK_SIZE;
    const length = Math.min(chunk, inode.size - done);
    const last = ranges.at(-1);
    if (last !== undefined && last.blob === blob && last.offset + last.length === offset) last.length += length;
    else if (blob >= 0) ranges.push({ blob, offset, length });
  }
  return ranges;
}
