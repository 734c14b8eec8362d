import { findName } from './find.ts';
import { type Inode, readInode, S_IFDIR, S_IFLNK, S_IFMT } from './inode.ts';
import type { Erofs } from './super-block.ts';
import { readSymlink } from './walk.ts';

/** As the kernel has it (path_resolution(7)). */
const MOST_LINKS = 40;
/** PATH_MAX: of the path, and of what links add to it. */
const MOST_LENGTH = 4096;

const nothing = (): void => {};

/**
 * Follows an absolute path from the root of a tree that is in memory as a whole, through symlinks; `..` at the root stays there.
 * @returns undefined where there is no such file
 * @throws NymphError `corrupt`
 */
export function resolvePath(erofs: Erofs, path: string): Inode | undefined {
  const way: Inode[] = [readInode(erofs, erofs.rootNid)];
  const ahead = path.split('/').reverse();
  for (let links = 0; ahead.length > 0; ) {
    const name = ahead.pop()!;
    const directory = way.at(-1)!;
    if ((directory.mode & S_IFMT) !== S_IFDIR) return undefined;
    if (name === '' || name === '.') continue;
    if (name === '..') {
      if (way.length > 1) way.pop();
      continue;
    }
    const nid = findName(erofs, directory, Buffer.from(name), nothing);
    if (nid < 0) return undefined;
    const inode = readInode(erofs, nid);
    if ((inode.mode & S_IFMT) !== S_IFLNK) {
      way.push(inode);
      continue;
    }
    const target = readSymlink(erofs, inode).toString();
    if (++links > MOST_LINKS || ahead.length + target.length > MOST_LENGTH) return undefined;
    if (target.startsWith('/')) way.length = 1;
    ahead.push(...target.split('/').reverse());
  }
  return way.at(-1);
}
