import { corrupt } from '../../errors.ts';
import { readNumber, TAR_BLOCK } from './header.ts';
import { type PaxRecords, paxNumber, paxText } from './pax.ts';

/** Where the stored bytes of a sparse file belong; between them are zeros. */
export interface SparseMap {
  /** Bytes of the file. */
  size: number;
  /** Ascending, not overlapping. */
  extents: { offset: number; length: number }[];
}

const STRUCTURE = 'tar sparse map';
const OLD_ENTRIES = 386;
const OLD_ENTRY_COUNT = 4;
const OLD_EXTENDED = 482;
const OLD_REAL_SIZE = 483;
const MORE_ENTRY_COUNT = 21;
const MORE_EXTENDED = 504;
const ENTRY = 24;
/** A file has at most this many extents: each costs memory. */
const MAX_EXTENTS = 1 << 20;

type Take = (length: number) => Promise<Buffer>;

/** The map of GNU tar's type `S`: in the header, and in blocks behind it. @param take reads the bytes that follow */
export async function readOldSparse(header: Buffer, stored: number, at: number, take: Take): Promise<SparseMap> {
  const map: SparseMap = { size: readNumber(header, OLD_REAL_SIZE, 12, at, 'realsize'), extents: [] };
  const add = (block: Buffer, start: number, count: number) => {
    for (let i = 0; i < count; i++) {
      const entry = start + i * ENTRY;
      if (block[entry] === 0) break;
      const offset = readNumber(block, entry, 12, at, 'sparse offset');
      map.extents.push({ offset, length: readNumber(block, entry + 12, 12, at, 'sparse size') });
    }
  };
  add(header, OLD_ENTRIES, OLD_ENTRY_COUNT);
  for (let more = header[OLD_EXTENDED] !== 0; more; ) {
    if (map.extents.length > MAX_EXTENTS) throw corrupt(STRUCTURE, 'entries', at, 'are too many');
    const block = await take(TAR_BLOCK);
    add(block, 0, MORE_ENTRY_COUNT);
    more = block[MORE_EXTENDED] !== 0;
  }
  return check(map, stored, at);
}

/** The map in pax records: GNU's formats 0.0, 0.1 and 1.0 (whose map stands before the data). Undefined if there is none. */
export async function readPaxSparse(
  records: PaxRecords,
  stored: number,
  at: number,
  take: Take,
): Promise<{ map: SparseMap; stored: number } | undefined> {
  if (paxText(records, 'GNU.sparse.major') === '1') {
    const size = paxNumber(records, 'GNU.sparse.realsize', at) ?? paxNumber(records, 'GNU.sparse.size', at) ?? 0;
    const { numbers, read } = await readNumberLines(at, take);
    return { map: check({ size, extents: pairs(numbers, at) }, stored - read, at), stored: stored - read };
  }
  const size = paxNumber(records, 'GNU.sparse.size', at);
  if (size === undefined) return undefined;
  const list = paxText(records, 'GNU.sparse.map');
  const numbers =
    list === undefined
      ? records
          .filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
          .map(([, value]) => Number(value.toString('latin1')))
      : list === ''
        ? []
        : list.split(',').map(Number);
  return { map: check({ size, extents: pairs(numbers, at) }, stored, at), stored };
}

/** Decimal numbers, each on a line: how many pairs follow, then the pairs; filled up to a whole block. */
async function readNumberLines(at: number, take: Take): Promise<{ numbers: number[]; read: number }> {
  const numbers: number[] = [];
  let rest = '';
  let read = 0;
  for (let wanted = 1; numbers.length < wanted; ) {
    const block = await take(TAR_BLOCK);
    read += TAR_BLOCK;
    const lines = (rest + block.toString('latin1')).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      if (numbers.length >= wanted) break;
      if (!/^[0-9]{1,16}$/.test(line)) throw corrupt(STRUCTURE, 'number', at, JSON.stringify(line.slice(0, 40)));
      numbers.push(Number(line));
      if (numbers.length === 1) wanted = 1 + numbers[0] * 2;
    }
    if (wanted > MAX_EXTENTS * 2 || rest.length > TAR_BLOCK) throw corrupt(STRUCTURE, 'entries', at, 'are too many');
  }
  return { numbers: numbers.slice(1), read };
}

function pairs(numbers: number[], at: number): SparseMap['extents'] {
  if (numbers.length % 2 !== 0) throw corrupt(STRUCTURE, 'entries', at, 'are not pairs');
  const extents: SparseMap['extents'] = [];
  for (let i = 0; i < numbers.length; i += 2) extents.push({ offset: numbers[i], length: numbers[i + 1] });
  return extents;
}

function check(map: SparseMap, stored: number, at: number): SparseMap {
  let free = 0;
  let sum = 0;
  for (const { offset, length } of map.extents) {
    const bad = !Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || length < 0;
    if (bad || offset < free || offset + length > map.size)
      throw corrupt(STRUCTURE, 'entry', at, `${length} bytes at ${offset} overlap others or leave the file`);
    free = offset + length;
    sum += length;
  }
  if (sum !== stored) throw corrupt(STRUCTURE, 'size', at, `${sum} bytes, but ${stored} are stored`);
  return map;
}
