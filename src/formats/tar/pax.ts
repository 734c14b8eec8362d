import { corrupt } from '../../errors.ts';

/** Records of an extended header (POSIX pax), in order: keys may repeat, values are bytes. */
export type PaxRecords = [key: string, value: Buffer][];

const STRUCTURE = 'pax header';
const SPACE = 0x20;
const EQUALS = 0x3d;
const NEWLINE = 0x0a;

/**
 * Reads `length key=value\n` records. Only the length ends a value: newlines and any other bytes may be inside.
 * @param at where the bytes stand, for errors
 * @throws NymphError `corrupt`
 */
export function parsePax(bytes: Buffer, at: number): PaxRecords {
  const records: PaxRecords = [];
  for (let start = 0; start < bytes.length; ) {
    const space = bytes.indexOf(SPACE, start);
    const digits = bytes.toString('latin1', start, space < 0 || space > start + 10 ? start + 10 : space);
    // Some writers fill the rest with zeros.
    if (bytes[start] === 0 && bytes.subarray(start).every((byte) => byte === 0)) break;
    if (space < 0 || !/^[1-9][0-9]*$/.test(digits)) throw corrupt(STRUCTURE, 'length', at + start, 'is no number');
    const end = start + Number(digits);
    const equals = bytes.indexOf(EQUALS, space);
    if (end > bytes.length || equals < 0 || equals >= end || bytes[end - 1] !== NEWLINE)
      throw corrupt(STRUCTURE, 'record', at + start, `does not have the ${digits} bytes that it says`);
    records.push([bytes.toString('utf8', space + 1, equals), Buffer.from(bytes.subarray(equals + 1, end - 1))]);
    start = end;
  }
  return records;
}

/** The last value of a key, as text. */
export function paxText(records: PaxRecords, key: string): string | undefined {
  return records.findLast(([name]) => name === key)?.[1].toString('utf8');
}

/** @throws NymphError `corrupt` if the value is no whole number that is safe */
export function paxNumber(records: PaxRecords, key: string, at: number): number | undefined {
  const value = paxText(records, key);
  if (value === undefined || value === '') return undefined;
  const number = Number(value);
  if (!/^-?[0-9]{1,16}$/.test(value) || !Number.isSafeInteger(number))
    throw corrupt(STRUCTURE, key, at, `is no number: ${JSON.stringify(value.slice(0, 40))}`);
  return number;
}

/** A time in decimal seconds. @returns whole seconds, rounded down, and nanoseconds */
export function paxTime(records: PaxRecords, key: string, at: number): { mtime: number; mtimeNs: number } | undefined {
  const value = paxText(records, key);
  if (value === undefined || value === '') return undefined;
  const match = /^(-?)([0-9]{1,15})(?:\.([0-9]*))?$/.exec(value);
  if (!match) throw corrupt(STRUCTURE, key, at, `is no time: ${JSON.stringify(value.slice(0, 40))}`);
  const seconds = Number(match[2]);
  const ns = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
  if (match[1] === '') return { mtime: seconds, mtimeNs: ns };
  return ns === 0 ? { mtime: -seconds, mtimeNs: 0 } : { mtime: -seconds - 1, mtimeNs: 1_000_000_000 - ns };
}

const SCHILY = 'SCHILY.xattr.';
const LIBARCHIVE = 'LIBARCHIVE.xattr.';

/** Extended attributes, as GNU tar, star, Go and libarchive write them. The last of equal names counts. */
export function paxXattrs(records: PaxRecords): { name: string; value: Buffer }[] {
  const found = new Map<string, Buffer>();
  for (const [key, value] of records)
    if (key.startsWith(LIBARCHIVE)) found.set(unescapeName(key.slice(LIBARCHIVE.length)), decodeBase64(value));
  for (const [key, value] of records) if (key.startsWith(SCHILY)) found.set(key.slice(SCHILY.length), value);
  return [...found].map(([name, value]) => ({ name, value }));
}

function decodeBase64(value: Buffer): Buffer {
  return Buffer.from(value.toString('latin1'), 'base64');
}

function unescapeName(name: string): string {
  return name.replace(/%([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(Number.parseInt(hex, 16)));
}
