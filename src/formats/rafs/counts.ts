import { S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG } from '../../erofs/inode.ts';
import type { Visit } from '../../erofs/walk.ts';

/** What a tree holds. Inodes are counted once, whatever number of names they have. */
export interface TreeCounts {
  inodes: number;
  directories: number;
  files: number;
  symlinks: number;
  devices: number;
  fifos: number;
  sockets: number;
  /** Names beyond the first of an inode. */
  hardLinks: number;
  /** Inodes with extended attributes. */
  withXattrs: number;
  /** Sum of the sizes of regular files, in bytes. */
  fileBytes: number;
}

export function emptyCounts(): TreeCounts {
  return {
    inodes: 0,
    directories: 0,
    files: 0,
    symlinks: 0,
    devices: 0,
    fifos: 0,
    sockets: 0,
    hardLinks: 0,
    withXattrs: 0,
    fileBytes: 0,
  };
}

export function countInode(counts: TreeCounts, visit: Visit): void {
  if (!visit.first) {
    counts.hardLinks++;
    return;
  }
  counts.inodes++;
  if (visit.inode.xattrSize > 0) counts.withXattrs++;
  switch (visit.inode.mode & S_IFMT) {
    case S_IFREG:
      counts.files++;
      counts.fileBytes += visit.inode.size;
      break;
    case S_IFDIR:
      counts.directories++;
      break;
    case S_IFLNK:
      counts.symlinks++;
      break;
    case S_IFCHR:
    case S_IFBLK:
      counts.devices++;
      break;
    case S_IFIFO:
      counts.fifos++;
      break;
    default:
      counts.sockets++;
  }
}
