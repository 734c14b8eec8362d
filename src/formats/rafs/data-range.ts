import { chunkAddressOffset, type Inode, LAYOUT_CHUNK_BASED } from '../../erofs/inode.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { BLOCK_SIZE, type BlobRange } from '../../image/image.ts';

/**
 * Where the data of a regular file begins, and how long it is, in a tree that was checked by `readImage`; undefined for
 * one without data in a blob.
 */
export function dataRange({ view }: Erofs, inode: Inode): BlobRange | undefined {
  if (inode.layout !== LAYOUT_CHUNK_BASED || inode.size === 0) return undefined;
  const at = chunkAddressOffset(inode);
  return {
    blob: (view.getUint16(at + 2, true) & 0xff) - 1,
    offset: view.getUint32(at + 4, true) * BLOCK_SIZE,
    length: inode.size,
  };
}
