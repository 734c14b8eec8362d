import { readModuleCode } from './marshal.ts';

/**
 * What a Python module imports when it is imported itself, told from its file: compiled (`.pyc`) or source. Imports
 * inside functions happen later, or never, and are left out. The bytes are those of any file: nothing here throws.
 */

/** `from a.b import c, d` is `{ module: 'a.b', names: ['c', 'd'] }`. The dots of relative imports are not kept: `''` for `from . import c`. */
export interface ImportStatement {
  module: string;
  /** Attributes, or modules within. */
  names: string[];
}

/** Of an interpreter's instructions. */
interface Operations {
  importName: number;
  importFrom: number;
  extendedArgument: number;
}

const HEADER_SIZE = 16;
const CLASSIC: Operations = { importName: 108, importFrom: 109, extendedArgument: 144 };
/** By minor version of Python 3, after `dis.opmap`. What is not here is not read ahead. */
const OPERATIONS: Record<number, Operations> = {
  8: CLASSIC,
  9: CLASSIC,
  10: CLASSIC,
  11: CLASSIC,
  12: CLASSIC,
  13: { importName: 75, importFrom: 74, extendedArgument: 71 },
};
/** More statements, and names in all of them, than any module has: a generated file of a hundred thousand is not worth following. */
const MOST_STATEMENTS = 1000;
const MOST_NAMES = 1000;
/** Characters. */
const MOST_LINE = 4096;

export function readImports(file: Uint8Array): ImportStatement[] {
  return isCompiled(file) ? compiledImports(file) : sourceImports(file);
}

/** A magic number of two bytes, then CR LF (CPython, Lib/importlib/_bootstrap_external.py). */
function isCompiled(file: Uint8Array): boolean {
  return file.length > HEADER_SIZE && file[2] === 0x0d && file[3] === 0x0a;
}

/** @returns `n` of Python 3.n (CPython, Include/internal/pycore_magic_number.h) */
function minorVersion(magic: number): number {
  if (magic >= 3450) return Math.floor((magic - 2900) / 50);
  // Before 3.11 versions had no ranges of their own; these are what released ones write.
  return { 3413: 8, 3425: 9, 3439: 10 }[magic] ?? 0;
}

function compiledImports(file: Uint8Array): ImportStatement[] {
  const minor = minorVersion(file[0] | (file[1] << 8));
  const operations = OPERATIONS[minor];
  const code = operations && readModuleCode(file.subarray(HEADER_SIZE), minor);
  if (code === undefined) return [];
  const { importName, importFrom, extendedArgument } = operations;
  const { instructions, names } = code;
  const found: ImportStatement[] = [];
  let high = 0;
  let left = MOST_NAMES;
  for (let at = 0; at + 1 < instructions.length && found.length < MOST_STATEMENTS; at += 2) {
    const operation = instructions[at];
    const argument = high + instructions[at + 1];
    high = operation === extendedArgument ? (argument << 8) >>> 0 : 0;
    const name = names[argument];
    if (name === undefined) continue;
    if (operation === importName) found.push({ module: name, names: [] });
    else if (operation === importFrom && left-- > 0) found.at(-1)?.names.push(name);
  }
  return found;
}

const IMPORT = /^\s*import\s+(.+)$/;
// What follows each other begins differently: else a line of nothing but dots, or blanks, would take hours.
const FROM_IMPORT = /^\s*from\s+([\w.]+)\s+import\s+(.*)$/;
const OPENS = /^\s*from\s+[\w.]+\s+import\s*\([^)]*$/;
/** Begins what runs later; the bodies of other blocks (try, if, with) run when the module is imported. */
const RUNS_LATER = /^(?:def|class|async|@)/;

function sourceImports(file: Uint8Array): ImportStatement[] {
  const found: ImportStatement[] = [];
  let runs = true;
  let left = MOST_NAMES;
  for (const line of joined(Buffer.from(file.buffer, file.byteOffset, file.length).toString('utf8'))) {
    if (found.length >= MOST_STATEMENTS) break;
    if (/^[^\s#)\]}]/.test(line)) runs = !RUNS_LATER.test(line);
    if (!runs || !line.includes('import')) continue;
    const from = FROM_IMPORT.exec(line);
    if (from !== null) {
      const names = nameList(from[2]).slice(0, left);
      left -= names.length;
      found.push({ module: from[1].replace(/^\.+/, ''), names });
    } else for (const module of nameList(IMPORT.exec(line)?.[1] ?? '')) found.push({ module, names: [] });
  }
  return found.slice(0, MOST_STATEMENTS);
}

/** Lines; names in parentheses over several lines are one. Too long ones are left out. */
function* joined(text: string): Iterable<string> {
  let open: string | undefined;
  for (const line of text.split('\n')) {
    if (line.length > MOST_LINE) continue;
    if (open !== undefined) open += ` ${line.replace(/#.*/, '').trim()}`;
    else if (OPENS.test(line)) open = line.replace(/#.*/, '').trimEnd();
    else yield line;
    if (open === undefined || (!line.includes(')') && open.length < 10_000)) continue;
    yield open;
    open = undefined;
  }
}

/** `a.b as c, d` and `(a, d)`: `['a.b', 'd']`. */
function nameList(text: string): string[] {
  return text
    .replace(/#.*/, '')
    .split(/[,()]/)
    .map((item) => item.trim().split(/\s/)[0])
    .filter((name) => /^[\w.]+$/.test(name));
}
