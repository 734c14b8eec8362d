import { corrupt } from '../errors.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import { readU64 } from './fields.ts';
import { flatData, type Inode } from './inode.ts';
import type { Erofs } from './super-block.ts';

/** `nameStart` and `nameEnd` are byte offsets in the bootstrap. */
export type EntryVisitor = (nid: number, fileType: number, nameStart: number, nameEnd: number) => void;

const STRUCTURE = 'EROFS directory';
const ENTRY_SIZE = 12;
const NAME_MAX = 255;
const SLASH = 0x2f;

/**
 * Visits the entries of a directory in their order, `.` and `..` included. Names are checked: 1…255 bytes without `/`
 * and NUL, strictly ascending by bytes over the whole directory, as the kernel's binary search expects them.
 * @throws NymphError `corrupt`
 */
export function eachEntry(erofs: Erofs, inode: Inode, visit: EntryVisitor): void {
  const data = flatData(erofs, inode);
  const { size } = inode;
  const last: LastName = { start: 0, end: 0 };
  for (let done = 0; done < size; done += BLOCK_SIZE) {
    const start = done < data.plain ? data.offset + done : data.tail;
    eachEntryOfBlock(erofs, start, start + Math.min(BLOCK_SIZE, size - done), last, visit);
  }
}

/** The name before, which the next must be above; `end` 0 if there is none. */
export interface LastName {
  start: number;
  end: number;
}

/** The same for one block of a directory, byte offsets in the bootstrap. */
export function eachEntryOfBlock(erofs: Erofs, start: number, end: number, last: LastName, visit: EntryVisitor): void {
  const { view, bytes } = erofs;
  if (end - start < ENTRY_SIZE) throw corrupt(STRUCTURE, 'size', start, 'no room for an entry');
  const first = view.getUint16(start + 8, true);
  if (first < ENTRY_SIZE || first % ENTRY_SIZE !== 0 || start + first >= end) {
    throw corrupt(STRUCTURE, 'nameoff', start + 8, `the first name cannot start at ${first}`);
  }
  let nameStart = start + first;
  for (let at = start; at < start + first; at += ENTRY_SIZE) {
    const isLast = at + ENTRY_SIZE === start + first;
    const nameEnd = isLast ? endOfLastName(bytes, nameStart, end) : start + view.getUint16(at + ENTRY_SIZE + 8, true);
    checkName(bytes, at, nameStart, nameEnd, end);
    if (last.end > 0 && !isAbove(bytes, nameStart, nameEnd, last.start, last.end)) {
      throw corrupt(STRUCTURE, 'name', nameStart, 'names are not in strictly ascending order');
    }
    visit(readU64(view, at, STRUCTURE, 'nid'), bytes[at + 10], nameStart, nameEnd);
    last.start = nameStart;
    last.end = nameEnd;
    nameStart = nameEnd;
  }
}

function endOfLastName(bytes: Uint8Array, start: number, limit: number): number {
  let end = start;
  while (end < limit && bytes[end] !== 0) end++;
  return end;
}

function checkName(bytes: Uint8Array, entry: number, start: number, end: number, limit: number): void {
  if (end <= start || end > limit)
    throw corrupt(STRUCTURE, 'nameoff', entry + 8, 'the name is empty or outside its block');
  if (end - start > NAME_MAX) throw corrupt(STRUCTURE, 'name', start, `longer than ${NAME_MAX} bytes`);
  for (let i = start; i < end; i++) {
    if (bytes[i] === 0 || bytes[i] === SLASH) throw corrupt(STRUCTURE, 'name', i, 'contains "/" or NUL');
  }
}

function isAbove(bytes: Uint8Array, start: number, end: number, lastStart: number, lastEnd: number): boolean {
  const common = Math.min(end - start, lastEnd - lastStart);
  for (let i = 0; i < common; i++) {
    const difference = bytes[start + i] - bytes[lastStart + i];
    if (difference !== 0) return difference > 0;
  }
  return end - start > lastEnd - lastStart;
}
