import { setImmediate as othersTurn } from 'node:timers/promises';
import type { ImportStatement } from '../formats/python/imports.ts';
import { firstModules, importedModules, type ModuleIndex, rootOf, standardModules } from '../formats/python/modules.ts';
import { fileAt } from '../image/file-table.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { Ahead, FileStart } from './ahead.ts';
import type { AttachedImage } from './attach.ts';

/** Follows the Python modules of one image to those that they import. */
export interface ModuleReadahead {
  /** A reader waits for a chunk, or one has arrived: perhaps a module, or the interpreter. @param blob index in the image */
  met(blob: number, offset: number): void;
}

/** Tells what modules import: their bytes in, statements out. */
export const IMPORTS = jobBeside<Uint8Array[], ImportStatement[][]>(import.meta.url, 'imports-job');

/** Uncompressed bytes that are sent for in all, ahead of an image's readers: all of PyTorch's modules are 35 MB. */
const MOST_BYTES = 64 << 20;
/** Modules that are read at a time. */
const MOST_AT_ONCE = 64;
/** Directories that modules are looked for in besides their own: every folder of an image could be one. */
const MOST_ROOTS = 32;

export function watchModules(
  { blobs }: AttachedImage,
  index: ModuleIndex,
  ahead: Ahead,
  pool: ThreadPool,
): ModuleReadahead {
  /** Rows of modules that were looked at, or are about to be. */
  const seen = new Set<number>();
  const roots = new Set<string>();
  let left = MOST_BYTES;
  /** What is known before it is read. */
  let standard: Map<number, number[]> | undefined;

  function met(blob: number, offset: number): void {
    const row = fileAt(index, blob, offset);
    if (row >= 0) begin(blob, offset, [row]);
    else
      for (const interpreter of index.interpreters)
        if (interpreter.blob === blob && interpreter.offset === offset) {
          begin(blob, offset, firstModules(index, interpreter));
          sendLocale();
        }
  }

  function sendLocale(): void {
    const { locale } = index;
    if (locale === undefined || locale.length > left) return;
    const { blob, offset, length } = locale;
    ahead.send(blobs[blob], { offset, size: length });
  }

  function begin(blob: number, offset: number, rows: number[]): void {
    ahead.leave(blobs[blob], offset, follow(rows));
  }

  /** Sends for modules, then for what they import, and so on: a round trip for each step. */
  async function follow(first: Iterable<number>): Promise<void> {
    for (let rows = fresh(withStandard(first)); rows.length > 0; ) {
      await Promise.all([...byBlob(rows)].map(([blob, files]) => ahead.fetch(blobs[blob], files)));
      const imported = new Set<number>();
      for (let at = 0; at < rows.length; at += MOST_AT_ONCE)
        for (const row of await importsOf(rows.slice(at, at + MOST_AT_ONCE))) imported.add(row);
      rows = fresh(withStandard(imported));
    }
  }

  /** Adds what modules of the standard library import, and what those do. */
  function withStandard(rows: Iterable<number>): Set<number> {
    const all = new Set(rows);
    standard ??= standardModules(index);
    // A set is gone through in the order of adding, with what is added meanwhile.
    for (const row of all) for (const imported of standard.get(row) ?? []) all.add(imported);
    return all;
  }

  /** Those that were not looked at yet, as far as there are bytes left. */
  function fresh(rows: Iterable<number>): number[] {
    const taken: number[] = [];
    for (const row of rows) {
      if (seen.has(row) || index.size[row] > left) continue;
      seen.add(row);
      left -= index.size[row];
      taken.push(row);
    }
    return taken;
  }

  function byBlob(rows: number[]): Map<number, FileStart[]> {
    const files = new Map<number, FileStart[]>();
    for (const row of rows) {
      const list = files.get(index.blob[row]) ?? [];
      list.push({ offset: index.offset[row], size: index.size[row] });
      files.set(index.blob[row], list);
    }
    return files;
  }

  async function importsOf(rows: number[]): Promise<Set<number>> {
    const files = await Promise.all(
      rows.map((row) => ahead.read(blobs[index.blob[row]], index.offset[row], 0, index.size[row])),
    );
    const statements = await pool.run(IMPORTS, files);
    const found = new Set<number>();
    for (const [i, row] of rows.entries()) {
      if (roots.size < MOST_ROOTS) roots.add(rootOf(index, row));
      for (const hit of importedModules(index, row, statements[i], roots)) found.add(hit);
      await othersTurn();
    }
    return found;
  }

  return { met };
}
