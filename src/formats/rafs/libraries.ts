import { chunkAddressOffset, LAYOUT_CHUNK_BASED, S_IFLNK, S_IFMT, S_IFREG } from '../../erofs/inode.ts';
import { readSymlink, walkTree } from '../../erofs/walk.ts';
import { BLOCK_SIZE, type BlobRange } from '../../image/image.ts';
import type { Bootstrap } from './bootstrap.ts';

/** Where the shared libraries of an image are, by file name; and the loader's cache of them. */
export type LibraryIndex = Map<string, BlobRange>;

const LIBRARY = /\.so(?:\.[0-9A-Za-z.]*)?$/;
export const LOADER_CACHE = 'ld.so.cache';
/** The directories that the loader looks into by itself (ld.so(8)): of two files with one name theirs is meant. */
const STANDARD = /^\/(?:usr\/)?lib(?:64)?\/(?:[^/]+-linux-[^/]+\/)?[^/]+$/;
const MOST_LINKS = 8;

/** Finds the libraries of an image whose tree was checked by `readImage`. */
export function indexLibraries({ erofs }: Bootstrap): LibraryIndex {
  const found: LibraryIndex = new Map();
  const links = new Map<string, string>();
  const standard = new Set<string>();
  walkTree(erofs, (visit) => {
    const { inode } = visit;
    const type = inode.mode & S_IFMT;
    if (type !== S_IFREG && type !== S_IFLNK) return;
    const name = Buffer.from(
      erofs.bytes.buffer,
      erofs.bytes.byteOffset + visit.nameStart,
      visit.nameEnd - visit.nameStart,
    );
    const text = name.toString('latin1');
    if (text !== LOADER_CACHE && !LIBRARY.test(text)) return;
    if (type === S_IFLNK) {
      const target = Buffer.from(readSymlink(erofs, inode)).toString('latin1');
      links.set(text, target.slice(target.lastIndexOf('/') + 1));
      return;
    }
    if (inode.layout !== LAYOUT_CHUNK_BASED || inode.size === 0 || standard.has(text)) return;
    const at = chunkAddressOffset(inode);
    found.set(text, {
      blob: (erofs.view.getUint16(at + 2, true) & 0xff) - 1,
      offset: erofs.view.getUint32(at + 4, true) * BLOCK_SIZE,
      length: inode.size,
    });
    if (STANDARD.test(visit.path().toString('latin1'))) standard.add(text);
  });
  for (const [name, target] of links) {
    let file = target;
    for (let i = 0; i < MOST_LINKS && !found.has(file) && links.has(file); i++) file = links.get(file)!;
    const range = found.get(file);
    if (range !== undefined && !found.has(name)) found.set(name, range);
  }
  return found;
}
