import { corrupt, NymphError } from '../errors.ts';

/**
 * Limits of memory for the core modules of a driver. They are written into the modules themselves: what a module takes is
 * not in the heap of its thread, so nothing else limits it.
 *
 * Source of the format: WebAssembly core specification 3.0, "Binary Format", "Modules".
 */

/** Pages of 64 KiB for all instances of a driver together: 64 MiB. */
export const MAX_PAGES = 1024;
/** For every module but that with the largest memory: helpers of the component. */
const SMALL_SHARE = 16;
const LARGEST_SHARE = 896;
const MAX_ELEMENTS = 65_536;

const HEADER_SIZE = 8;
const CUSTOM = 0;
const TABLES = 4;
const MEMORIES = 5;
const HAS_MAXIMUM = 1;
const FUNCREF = 0x70;
const EXTERNREF = 0x6f;

interface LimitedModule {
  module: Uint8Array<ArrayBuffer>;
  /** What an instance of it can have. */
  pages: number;
}

interface Cursor {
  readonly bytes: Uint8Array;
  at: number;
}

interface Limits {
  min: number;
  max?: number;
}

/**
 * Limits the modules of one driver: most for the one whose memory begins largest, little for the others.
 * @throws NymphError `unsupported` for modules that begin with more than they may have, and for kinds of memories and
 *   tables that cannot be limited; `corrupt` for what is no module
 */
export function limitModules(modules: readonly Uint8Array[]): LimitedModule[] {
  const first = modules.map(initialPages);
  const largest = first.indexOf(Math.max(...first));
  return modules.map((module, i) => limit(module, i === largest ? LARGEST_SHARE : SMALL_SHARE));
}

function initialPages(module: Uint8Array): number {
  let pages = 0;
  for (const { id, cursor } of sections(module))
    if (id === MEMORIES) for (let left = readNumber(cursor); left > 0; left--) pages += readLimits(cursor).min;
  return pages;
}

function limit(module: Uint8Array, share: number): LimitedModule {
  let pages = 0;
  const parts: Uint8Array[] = [module.subarray(0, HEADER_SIZE)];
  for (const { id, cursor, whole } of sections(module)) {
    if (id !== MEMORIES && id !== TABLES) {
      parts.push(whole);
      continue;
    }
    const count = readNumber(cursor);
    if (count > 64) throw unlimited(`a module with ${count} memories or tables`);
    const body: number[] = writeNumber(count);
    for (let i = 0; i < count; i++) {
      if (id === TABLES) body.push(readElementType(cursor));
      const { min, max = Number.POSITIVE_INFINITY } = readLimits(cursor);
      const most = id === TABLES ? MAX_ELEMENTS : Math.floor(share / count);
      if (min > most) throw unlimited(`a ${id === TABLES ? 'table' : 'memory'} that begins with ${min} of ${most}`);
      if (id === MEMORIES) pages += Math.min(max, most);
      body.push(HAS_MAXIMUM, ...writeNumber(min), ...writeNumber(Math.min(max, most)));
    }
    if (cursor.at !== cursor.bytes.length) throw wrong('a section', cursor.at);
    parts.push(Uint8Array.from([id, ...writeNumber(body.length), ...body]));
  }
  return { module: Uint8Array.from(Buffer.concat(parts)), pages };
}

/** @returns for each section its content, and all of it with its header */
function* sections(module: Uint8Array): Generator<{ id: number; cursor: Cursor; whole: Uint8Array }> {
  if (Buffer.from(module.subarray(0, HEADER_SIZE)).toString('latin1') !== '\0asm\x01\0\0\0')
    throw wrong('the header', 0);
  const cursor: Cursor = { bytes: module, at: HEADER_SIZE };
  const seen = new Set<number>();
  while (cursor.at < module.length) {
    const start = cursor.at;
    const id = module[cursor.at++];
    if (id !== CUSTOM && seen.has(id)) throw wrong('a section that is there twice', start);
    seen.add(id);
    const size = readNumber(cursor);
    const end = cursor.at + size;
    if (end > module.length) throw wrong('the size of a section', start);
    yield { id, cursor: { bytes: module.subarray(cursor.at, end), at: 0 }, whole: module.subarray(start, end) };
    cursor.at = end;
  }
}

function readLimits(cursor: Cursor): Limits {
  const flags = cursor.bytes[cursor.at++];
  if (flags !== 0 && flags !== HAS_MAXIMUM) throw unlimited('a shared or 64-bit memory');
  const min = readNumber(cursor);
  return flags === HAS_MAXIMUM ? { min, max: readNumber(cursor) } : { min };
}

function readElementType(cursor: Cursor): number {
  const type = cursor.bytes[cursor.at++];
  if (type !== FUNCREF && type !== EXTERNREF) throw unlimited('a table of another kind than functions');
  return type;
}

/** An unsigned LEB128 of 32 bits. */
function readNumber(cursor: Cursor): number {
  let value = 0;
  for (let i = 0; i < 5; i++) {
    const byte = cursor.bytes[cursor.at++];
    if (byte === undefined) break;
    value += (byte & 0x7f) * 2 ** (7 * i);
    if (byte < 0x80 && value < 2 ** 32) return value;
  }
  throw wrong('a number', cursor.at);
}

function writeNumber(value: number): number[] {
  const bytes: number[] = [];
  let rest = value;
  while (rest >= 0x80) {
    bytes.push((rest % 0x80) | 0x80);
    rest = Math.floor(rest / 0x80);
  }
  return [...bytes, rest];
}

function unlimited(what: string): NymphError {
  return new NymphError('unsupported', `the plugin has ${what}: its memory cannot be limited`);
}

function wrong(field: string, at: number): NymphError {
  return corrupt('module of a plugin', field, at, 'is wrong');
}
