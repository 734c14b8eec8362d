import type { Erofs } from '../../erofs/super-block.ts';
import { readSymlink, type Visit } from '../../erofs/walk.ts';
import type { BlobRange } from '../../image/image.ts';

/** Where the shared libraries of an image are, by file name; and the loader's cache of them. */
export type LibraryIndex = Map<string, BlobRange>;

/** By the name of a file. */
export const LIBRARY = /\.so(?:\.[0-9A-Za-z.]*)?$/;
export const LOADER_CACHE = 'ld.so.cache';
/** The directories that the loader looks into by itself (ld.so(8)): of two files with one name theirs is meant. */
const STANDARD = /^\/(?:usr\/)?lib(?:64)?\/(?:[^/]+-linux-[^/]+\/)?[^/]+$/;
const MOST_LINKS = 8;

/** Collects the libraries among the files of an image. */
export function collectLibraries() {
  const found: LibraryIndex = new Map();
  const links = new Map<string, string>();
  const standard = new Set<string>();
  const isLibrary = (name: string) => name === LOADER_CACHE || LIBRARY.test(name);

  function file(name: string, range: BlobRange, visit: Visit): void {
    if (!isLibrary(name) || standard.has(name)) return;
    found.set(name, range);
    if (STANDARD.test(visit.path().toString('latin1'))) standard.add(name);
  }

  function link(name: string, erofs: Erofs, { inode }: Visit): void {
    if (!isLibrary(name)) return;
    const target = Buffer.from(readSymlink(erofs, inode)).toString('latin1');
    links.set(name, target.slice(target.lastIndexOf('/') + 1));
  }

  function index(): LibraryIndex {
    for (const [name, target] of links) {
      let file = target;
      for (let i = 0; i < MOST_LINKS && !found.has(file) && links.has(file); i++) file = links.get(file)!;
      const range = found.get(file);
      if (range !== undefined && !found.has(name)) found.set(name, range);
    }
    return found;
  }

  return { file, link, index };
}
