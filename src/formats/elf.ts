/**
 * ELF as far as a dynamic loader's next reads can be told from it: which interpreter, which libraries, where their names
 * are. Source: elf(5), 64-bit little-endian. The bytes are those of any file: nothing here throws, and what does not
 * make sense is `undefined` or empty.
 */

/** A range of the file, bytes. */
export interface FileRange {
  offset: number;
  size: number;
}

export interface Program {
  /** Bytes of the file, as the section table (which stands last) and the segments tell. */
  size: number;
  /** The path of the interpreter: an executable has one, a library does not. */
  interpreter?: FileRange;
  /** The dynamic section: what {@link readDynamic} takes. */
  dynamic?: FileRange;
  /** Loaded segments: file offset, virtual address, size in the file. */
  segments: { offset: number; address: number; size: number }[];
}

/** Bytes at the beginning of a file that {@link readProgram} wants. */
export const PROGRAM_HEADER_SIZE = 4096;

const MAGIC = 0x464c457f;
const CLASS_64_LITTLE = 0x0102;
const HEADER_SIZE = 64;
const SEGMENT_SIZE = 56;
const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const DT_NEEDED = 1;
const DT_STRTAB = 5;
const DYNAMIC_ENTRY = 16;
const MOST_NAMES = 256;
/** Above this a number of the file is nonsense, and would not be exact. */
const MOST = 2 ** 48;

/** True if a file that begins with these bytes may be a program or library. */
export function startsProgram(bytes: Uint8Array): boolean {
  return bytes.length > HEADER_SIZE && bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

/** @param bytes the beginning of the file: {@link PROGRAM_HEADER_SIZE} bytes, or all of a shorter one. */
export function readProgram(bytes: Uint8Array): Program | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length < HEADER_SIZE || view.getUint32(0, true) !== MAGIC) return undefined;
  if (view.getUint16(4, true) !== CLASS_64_LITTLE) return undefined;
  const number = (at: number) => Number(view.getBigUint64(at, true));
  const table = number(32);
  const count = view.getUint16(56, true);
  if (view.getUint16(54, true) !== SEGMENT_SIZE || table + count * SEGMENT_SIZE > bytes.length) return undefined;
  const program: Program = { size: number(40) + view.getUint16(58, true) * view.getUint16(60, true), segments: [] };
  for (let at = table; at < table + count * SEGMENT_SIZE; at += SEGMENT_SIZE) {
    const range = { offset: number(at + 8), size: number(at + 32) };
    if (range.offset + range.size > MOST) return undefined;
    const type = view.getUint32(at, true);
    if (type === PT_INTERP) program.interpreter = range;
    if (type === PT_DYNAMIC) program.dynamic = range;
    if (type === PT_LOAD) program.segments.push({ ...range, address: number(at + 16) });
    program.size = Math.max(program.size, range.offset + range.size);
  }
  return program.size > MOST ? undefined : program;
}

/**
 * The names that the dynamic section asks for.
 * @param bytes the dynamic section
 * @returns offsets in the file where the names of needed libraries begin, each ended by a NUL
 */
export function readDynamic(program: Program, bytes: Uint8Array): number[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const names: number[] = [];
  let strings: number | undefined;
  for (let at = 0; at + DYNAMIC_ENTRY <= bytes.length; at += DYNAMIC_ENTRY) {
    const tag = Number(view.getBigUint64(at, true));
    const value = Number(view.getBigUint64(at + 8, true));
    if (tag === 0) break;
    if (tag === DT_NEEDED && names.length < MOST_NAMES) names.push(value);
    if (tag === DT_STRTAB) strings = fileOffset(program, value);
  }
  if (strings === undefined) return [];
  const start = strings;
  return names.map((name) => start + name).filter((offset) => offset < program.size);
}

function fileOffset(program: Program, address: number): number | undefined {
  const segment = program.segments.find((part) => address >= part.address && address < part.address + part.size);
  return segment && address - segment.address + segment.offset;
}

/** The last part of a path or name that ends with a NUL. Empty if there is no NUL. */
export function baseName(bytes: Uint8Array): string {
  const end = bytes.indexOf(0);
  if (end < 0) return '';
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, end).toString('latin1');
  return text.slice(text.lastIndexOf('/') + 1);
}
