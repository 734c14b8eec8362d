import { chunkAddressOffset, LAYOUT_CHUNK_BASED, S_IFDIR, S_IFLNK, S_IFMT, S_IFREG } from '../erofs/inode.ts';
import { openErofs } from '../erofs/super-block.ts';
import { readSymlink, walkTree } from '../erofs/walk.ts';

/** A name in an image's tree. */
export interface TreeFile {
  /** Without a slash before it. */
  path: string;
  type: 'file' | 'directory' | 'symlink' | 'other';
  /** Permission bits. */
  mode: number;
  /** Bytes. */
  size: number;
  /** Seconds since 1970. */
  mtime: number;
  target?: string;
  /** Index of the blob that holds a file that stands there as it is. */
  blob?: number;
}

const TYPES = new Map<number, TreeFile['type']>([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
]);

/**
 * Lists what a checked bootstrap has, the root left out, in the order of paths.
 * @param ofFiles the image is one of files as they stand (`isOfFiles`)
 * @throws NymphError `corrupt`
 */
export function treeFiles(bootstrap: Uint8Array, ofFiles: boolean): TreeFile[] {
  const erofs = openErofs(bootstrap);
  const files: TreeFile[] = [];
  walkTree(erofs, (visit) => {
    if (visit.parent < 0) return;
    const { inode } = visit;
    const type = TYPES.get(inode.mode & S_IFMT) ?? 'other';
    const isExtent = ofFiles && inode.layout === LAYOUT_CHUNK_BASED && inode.size > 0;
    files.push({
      path: visit.path().subarray(1).toString(),
      type,
      mode: inode.mode & 0o7777,
      size: type === 'file' || type === 'symlink' ? inode.size : 0,
      mtime: inode.mtime,
      ...(type === 'symlink' && { target: readSymlink(erofs, inode).toString() }),
      ...(isExtent && { blob: erofs.view.getUint16(chunkAddressOffset(inode) + 2, true) - 1 }),
    });
  });
  return files.sort((a, b) => (a.path < b.path ? -1 : 1));
}
