import { type FileTable, lowest } from '../../image/file-table.ts';
import type { BlobRange } from '../../image/image.ts';
import type { ImportStatement } from './imports.ts';
import { standardImports } from './standard-library.ts';

/**
 * The Python modules of an image: where they are, found by place and by name. Of names there is a hash each: an image
 * has tens of thousands of modules, and many images are mounted. Two that collide cost bytes, no more.
 */
export interface ModuleIndex extends FileTable {
  /** The directories that hold modules. */
  readonly paths: readonly string[];
  /** Their positions in `paths`. */
  readonly directories: ReadonlyMap<string, number>;
  /** Of each row. */
  readonly directory: Uint32Array;
  /** {@link hashName} of `re` or `__init__`. */
  readonly name: Uint32Array;
  /** The rows, ascending by directory and name. */
  readonly byName: Uint32Array;
  /** Executables `python3.N`. */
  readonly interpreters: readonly Interpreter[];
  /** What interpreters read where no language is set (PEP 538): characters of the locale C.UTF-8. */
  readonly locale: BlobRange | undefined;
}

export interface Interpreter {
  name: string;
  blob: number;
  offset: number;
}

/** FNV-1a, 32 bits. */
export function hashName(name: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < name.length; i++) hash = Math.imul(hash ^ name.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

/** @returns the row of module `name` in a directory, or -1 */
function moduleNamed({ directories, directory, name, byName }: ModuleIndex, path: string, wanted: string): number {
  const number = directories.get(path);
  if (number === undefined) return -1;
  const hash = hashName(wanted);
  const at = lowest(byName.length, (i) => {
    const row = byName[i];
    return directory[row] > number || (directory[row] === number && name[row] >= hash);
  });
  const row = byName[at];
  return at < byName.length && directory[row] === number && name[row] === hash ? row : -1;
}

const PACKAGE = '__init__';
/** What the interpreter itself reads before anything else, and what nearly every program imports, through argparse, json, logging or typing. */
const FIRST = ['encodings', 'encodings.aliases', 'encodings.utf_8', 're'];
/** From 3.11 on these are within the interpreter (CPython, Tools/build/freeze_modules.py). */
const FROZEN = new Set(
  (
    'abc codecs io _collections_abc _sitebuiltins genericpath ntpath posixpath os site stat ' +
    'importlib.util importlib.machinery runpy zipimport'
  ).split(' '),
);
/** A directory that only a standard library has. */
const STANDARD_LIBRARY = /\/python3\.\d+\/encodings$/;
const FREEZING_LIBRARY = /\/python3\.(?:1[1-9]|[2-9][0-9])$/;

/** @returns rows of the modules that an interpreter reads before the first one that a program asks for */
export function firstModules(index: ModuleIndex, { name }: Interpreter): number[] {
  const library = index.paths.find((path) => path.endsWith(`/${name}/encodings`));
  if (library === undefined) return [];
  return FIRST.flatMap((module) => locate(index, parentOf(library), module));
}

/** Which modules of the standard libraries of an image import which, by row. */
export function standardModules(index: ModuleIndex): Map<number, number[]> {
  const found = new Map<number, number[]>();
  const imports = standardImports();
  for (const path of index.paths) {
    if (!STANDARD_LIBRARY.test(path)) continue;
    for (const [name, targets] of imports) {
      const rows = locate(index, parentOf(path), name);
      if (rows.length < name.split('.').length) continue;
      found.set(
        rows.at(-1)!,
        targets.flatMap((target) => locate(index, parentOf(path), target)),
      );
    }
  }
  return found;
}

/** Packages within packages that are followed: an image can have any tree. */
const MOST_NESTED = 16;

/** The directory from which a module is imported by its whole name: the first above it that is no package. */
export function rootOf(index: ModuleIndex, row: number): string {
  return directoriesAbove(index, row).at(-1)!;
}

/** The directory of a module, and those above it up to its root. */
function directoriesAbove(index: ModuleIndex, row: number): string[] {
  let path = pathOf(index, row);
  const above = [path];
  // The top of the image may be a package like any other, and has nothing above it.
  while (path !== '' && above.length < MOST_NESTED && moduleNamed(index, path, PACKAGE) >= 0) {
    path = parentOf(path);
    above.push(path);
  }
  return above;
}

/**
 * @param row of the module whose file has the statements
 * @param roots directories that modules were imported from before
 * @returns rows of the modules that they mean, as far as they are in the image
 */
export function importedModules(
  index: ModuleIndex,
  row: number,
  statements: readonly ImportStatement[],
  roots: Iterable<string>,
): Set<number> {
  const bases = new Set([...directoriesAbove(index, row), ...roots]);
  const found = new Set<number>();
  for (const { module, names } of statements)
    for (const base of bases) {
      for (const hit of locate(index, base, module)) found.add(hit);
      // What is imported from a package may be a module in it.
      const inside = module === '' ? base : `${base}/${module.replaceAll('.', '/')}`;
      for (const name of names) for (const hit of locate(index, inside, name)) found.add(hit);
    }
  found.delete(row);
  return found;
}

/** @returns rows of a module and the packages on the way to it, as far as they are there */
function locate(index: ModuleIndex, base: string, module: string): number[] {
  if (FROZEN.has(module) && FREEZING_LIBRARY.test(base)) return [];
  const rows: number[] = [];
  let path = base;
  for (const part of module.split('.')) {
    const own = moduleNamed(index, `${path}/${part}`, PACKAGE);
    const row = own >= 0 ? own : moduleNamed(index, path, part);
    if (row < 0) break;
    rows.push(row);
    path += `/${part}`;
  }
  return rows;
}

function pathOf({ paths, directory }: ModuleIndex, row: number): string {
  return paths[directory[row]];
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
