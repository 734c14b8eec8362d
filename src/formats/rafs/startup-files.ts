import { S_IFLNK, S_IFMT, S_IFREG } from '../../erofs/inode.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { walkTree } from '../../erofs/walk.ts';
import type { FileTable } from '../../image/file-table.ts';
import type { BlobRange } from '../../image/image.ts';
import type { ModuleIndex } from '../python/modules.ts';
import { dataAt, dataRange } from './data-range.ts';
import { collectExecutables } from './executables.ts';
import { collectLibraries, type LibraryIndex } from './libraries.ts';
import { collectModules } from './modules.ts';

/** Files of an image that name the files which are read after them. */
export interface StartupFiles {
  /** What runtimes look users and groups up in, before anything runs. */
  accounts: BlobRange[];
  executables: FileTable;
  libraries: LibraryIndex;
  /** Absent where there are none. */
  modules?: ModuleIndex;
}

const ACCOUNTS = ['/etc/passwd', '/etc/group'];

/** Finds them in a tree that was checked by `readImage`, in one walk. */
export function indexStartupFiles(erofs: Erofs): StartupFiles {
  const executables = collectExecutables();
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
    executables.file(name, range, visit);
    libraries.file(name, range, visit);
    modules.file(name, range, visit);
  });
  const accounts = ACCOUNTS.flatMap((path) => dataAt(erofs, path) ?? []);
  return {
    accounts,
    executables: executables.index(),
    libraries: libraries.index(),
    modules: modules.index(),
  };
}
