import { baseName, PROGRAM_HEADER_SIZE, type Program, readDynamic, readProgram } from '../formats/elf.ts';
import { LOADER_CACHE } from '../formats/rafs/libraries.ts';
import type { StartupFiles } from '../formats/rafs/startup-files.ts';
import { fileAt } from '../image/file-table.ts';
import type { Ahead } from './ahead.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlob } from './served.ts';

/** Follows the programs of one image to their libraries. */
export interface ProgramReadahead {
  /** Sends for the loader, the C library and the accounts. */
  expect(): void;
  /** A reader waits: perhaps for the first bytes of an executable. @param blob index in the image */
  awaited(blob: number, offset: number): void;
  /** A program has arrived. @param blob index in the image */
  arrived(blob: number, offset: number): void;
}

/** Executables are read all over (relocations, then code) and are fetched whole up to this size, bytes; libraries less so. */
const WHOLE_EXECUTABLE = 8 << 20;
const WHOLE_LIBRARY = 2 << 20;
/** Of a larger file the beginning, the dynamic section and the names are enough to go on. */
const BEGINNING = 64 << 10;
/** The loader's cache, the loader (glibc's and musl's), the C library. */
const COMMON = /^(?:ld\.so\.cache|ld-(?:linux|musl)\S*\.so\.\d+|libc\.so\.6)$/;
const NAME_SIZE = 256;
const MOST_DYNAMIC = 64 << 10;

export function watchPrograms(
  { blobs }: AttachedImage,
  { accounts, executables, libraries }: Pick<StartupFiles, 'accounts' | 'executables' | 'libraries'>,
  ahead: Ahead,
): ProgramReadahead {
  /** Programs that were looked at: `<blob index>:<offset>`. */
  const seen = new Set<string>();
  /** Rows of executables that were sent for. */
  const asked = new Set<number>();

  function arrived(blob: number, offset: number): void {
    const key = `${blob}:${offset}`;
    if (seen.has(key)) return;
    seen.add(key);
    ahead.leave(blobs[blob], offset, follow(blobs[blob], offset));
  }

  async function follow(served: ServedBlob, start: number): Promise<void> {
    const limit = served.cached.size - start;
    const program = readProgram(await ahead.read(served, start, 0, Math.min(PROGRAM_HEADER_SIZE, limit)));
    if (program === undefined) return;
    const { interpreter } = program;
    const whole = interpreter === undefined ? WHOLE_LIBRARY : WHOLE_EXECUTABLE;
    if (interpreter !== undefined && interpreter.size <= NAME_SIZE) {
      want(LOADER_CACHE);
      want(baseName(await ahead.read(served, start, interpreter.offset, interpreter.size)));
    }
    // The names first: the libraries wait for them.
    const names = neededNames(served, start, program);
    ahead.send(served, { offset: start, size: Math.min(limit, program.size <= whole ? program.size : BEGINNING) });
    for (const name of await names) want(name);
  }

  async function neededNames(served: ServedBlob, start: number, program: Program): Promise<string[]> {
    const { dynamic } = program;
    if (dynamic === undefined || dynamic.size > MOST_DYNAMIC) return [];
    const names = readDynamic(program, await ahead.read(served, start, dynamic.offset, dynamic.size));
    return Promise.all(names.map(async (offset) => baseName(await ahead.read(served, start, offset, NAME_SIZE))));
  }

  function want(name: string): void {
    const library = libraries.get(name);
    const served = library && blobs[library.blob];
    if (library === undefined || served === undefined) return;
    const size = library.length <= WHOLE_LIBRARY ? library.length : BEGINNING;
    ahead.send(served, { offset: library.offset, size });
    arrived(library.blob, library.offset);
  }

  function awaited(blob: number, offset: number): void {
    const row = fileAt(executables, blob, offset);
    if (row < 0 || executables.size[row] > WHOLE_EXECUTABLE || asked.has(row)) return;
    asked.add(row);
    ahead.send(blobs[blob], { offset, size: executables.size[row] });
  }

  return {
    arrived,
    awaited,
    expect() {
      for (const { blob, offset, length } of accounts)
        if (blobs[blob] !== undefined && length <= BEGINNING) ahead.send(blobs[blob], { offset, size: length });
      for (const name of libraries.keys()) if (COMMON.test(name)) want(name);
    },
  };
}
