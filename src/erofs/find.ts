import { BLOCK_SIZE } from '../image/image.ts';
import { type EntryVisitor, eachEntryOfBlock, type LastName } from './directory.ts';
import { type FlatData, flatData, type Inode } from './inode.ts';
import type { Erofs } from './super-block.ts';

/** Makes a range of the bootstrap readable, bytes: for bootstraps that are not in memory as a whole. */
export type Load = (offset: number, length: number) => void;

const ENTRY_SIZE = 12;

/**
 * Finds a name in a directory, by halving its blocks as the kernel does (names ascend over the whole directory).
 * @returns the inode, or -1
 * @throws NymphError `corrupt`, and what `load` throws
 */
export function findName(erofs: Erofs, directory: Inode, name: Uint8Array, load: Load): number {
  const { bytes, view } = erofs;
  const data = flatData(erofs, directory);
  const { size } = directory;
  let low = 0;
  let high = Math.ceil(size / BLOCK_SIZE) - 1;
  if (high < 0) return -1;
  while (low < high) {
    const middle = (low + high + 1) >>> 1;
    const [start, end] = blockOf(data, size, middle);
    load(start, end - start);
    const first = view.getUint16(start + 8, true);
    const limit = first > ENTRY_SIZE ? view.getUint16(start + ENTRY_SIZE + 8, true) : end - start;
    if (compareName(bytes, start + first, Math.min(start + limit, end), name) <= 0) low = middle;
    else high = middle - 1;
  }
  const [start, end] = blockOf(data, size, low);
  load(start, end - start);
  let found = -1;
  eachEntryOfBlock(erofs, start, end, { start: 0, end: 0 }, (nid, _, nameStart, nameEnd) => {
    if (nameEnd - nameStart === name.length && compareName(bytes, nameStart, nameEnd, name) === 0) found = nid;
  });
  return found;
}

/**
 * Visits a directory's entries from a position on, `.` and `..` included, until `visit` returns false.
 * @param from 0, or what an earlier visit was given as `next`
 * @throws NymphError `corrupt`, and what `load` throws
 */
export function eachEntryFrom(
  erofs: Erofs,
  directory: Inode,
  from: number,
  load: Load,
  visit: (...entry: [...Parameters<EntryVisitor>, next: number]) => boolean,
): void {
  const data = flatData(erofs, directory);
  const { size } = directory;
  const last: LastName = { start: 0, end: 0 };
  let going = true;
  for (let block = Math.floor(from / BLOCK_SIZE); going && block * BLOCK_SIZE < size; block++) {
    const [start, end] = blockOf(data, size, block);
    load(start, end - start);
    let position = block * BLOCK_SIZE;
    last.end = 0;
    eachEntryOfBlock(erofs, start, end, last, (nid, fileType, nameStart, nameEnd) => {
      const here = position;
      position += ENTRY_SIZE;
      if (going && here >= from) going = visit(nid, fileType, nameStart, nameEnd, position);
    });
  }
}

/** Byte offsets of one block of a directory. */
function blockOf(data: FlatData, size: number, index: number): [start: number, end: number] {
  const done = index * BLOCK_SIZE;
  const start = done < data.plain ? data.offset + done : data.tail;
  return [start, start + Math.min(BLOCK_SIZE, size - done)];
}

/** Below 0 if the name at `start`, up to `limit` or NUL, sorts before `name`; 0 if they are the same. */
function compareName(bytes: Uint8Array, start: number, limit: number, name: Uint8Array): number {
  for (let i = 0; i < name.length; i++) {
    const byte = start + i < limit ? bytes[start + i] : 0;
    if (byte !== name[i]) return byte - name[i];
  }
  return start + name.length < limit && bytes[start + name.length] !== 0 ? 1 : 0;
}
