import { S_IFLNK, S_IFMT, S_IFREG } from '../../erofs/inode.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { walkTree } from '../../erofs/walk.ts';
import type { ModuleIndex } from '../python/modules.ts';
import { dataRange } from './data-range.ts';
import { collectLibraries, type LibraryIndex } from './libraries.ts';
import { collectModules } from './modules.ts';

/** Files of an image that name the files which are read after them. */
export interface StartupFiles {
  libraries: LibraryIndex;
  /** Absent where there are none. */
  modules?: ModuleIndex;
}

/** Finds them in a tree that was checked by `readImage`, in one walk. */
export function indexStartupFiles(erofs: Erofs): StartupFiles {
  const libraries = collectLibraries();
  const modules = collectModules();
  walkTree(erofs, (visit) => {
    const type = visit.inode.mode & S_IFMT;
    if (type !== S_IFREG && type !== S_IFLNK) return;
    const { buffer, byteOffset } = erofs.bytes;
    const { nameStart, nameEnd } = visit;
    const name = Buffer.from(buffer, byteOffset + nameStart, nameEnd - nameStart).toString('latin1');
    if (type === S_IFLNK) {
      libraries.link(name, erofs, visit);
      return;
    }
    const range = dataRange(erofs, visit.inode);
    if (range === undefined) return;
    libraries.file(name, range, visit);
    modules.file(name, range, visit);
  });
  return { libraries: libraries.index(), modules: modules.index() };
}
