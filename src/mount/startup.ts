import type { CachedBlob } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { baseName, PROGRAM_HEADER_SIZE, type Program, readDynamic, readProgram } from '../formats/elf.ts';
import { type LibraryIndex, LOADER_CACHE } from '../formats/rafs/libraries.ts';
import { placeInFile } from '../image/image.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlob, ServedBlobs } from './served.ts';

/**
 * Start-up readahead. A program that starts reads its interpreter, then one library after another, each a round trip
 * that waits for the one before. All of it stands in the ELF headers: so when the first chunk of a program arrives, its
 * libraries are sent for at once. Cold start of Python at 10 ms: 24 round trips one after another become 12.
 *
 * It only fetches; a wrong guess costs bytes, never correctness, and whatever fails here is left to the real reads.
 */
export interface Startup {
  /** Looks after the programs of an image until it is released. */
  watch(image: AttachedImage, libraries: LibraryIndex): void;
  /** Sends for what every program of a watched image needs first: the loader and the C library (about 1 MB). */
  expect(image: AttachedImage): void;
  /** A chunk that begins like a program has arrived at `offset` of a blob. */
  arrived(blob: CachedBlob, offset: number): void;
}

interface Watched {
  image: AttachedImage;
  libraries: LibraryIndex;
  /** Programs that were looked at: `<blob index>:<offset>`. */
  seen: Set<string>;
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

export function createStartup(blobs: ServedBlobs, log: FetchContext['log']): Startup {
  const watched = new Map<AttachedImage, Watched>();
  const never = new AbortController().signal;

  function arrived(cached: CachedBlob, offset: number): void {
    for (const watch of watched.values()) {
      const blob = watch.image.blobs.findIndex((served) => served.cached === cached);
      if (blob >= 0) look(watch, blob, offset);
    }
  }

  function look(watch: Watched, blob: number, offset: number): void {
    const key = `${blob}:${offset}`;
    if (watch.seen.has(key)) return;
    watch.seen.add(key);
    const served = watch.image.blobs[blob];
    leaveToReads(served, offset, follow(watch, served, offset));
  }

  /** @param offset of a file in the blob @param size bytes of the file from its start on */
  function send(served: ServedBlob, offset: number, size: number): void {
    const length = placeInFile(served.cached.chunks, offset, Math.max(0, size - 1)) + 1 - offset;
    leaveToReads(served, offset, served.fetcher.gather([{ offset, length }], never));
  }

  function leaveToReads({ cached }: ServedBlob, offset: number, work: Promise<void>): void {
    work.catch((error) => {
      const level = error instanceof NymphError ? 'debug' : 'error';
      log(level, 'start-up readahead gave up', { blob: cached.key, offset, error: String(error) });
    });
  }

  async function follow(watch: Watched, served: ServedBlob, start: number): Promise<void> {
    const limit = served.cached.size - start;
    const program = readProgram(await read(served, start, 0, Math.min(PROGRAM_HEADER_SIZE, limit)));
    if (program === undefined) return;
    const { interpreter } = program;
    const whole = interpreter === undefined ? WHOLE_LIBRARY : WHOLE_EXECUTABLE;
    if (interpreter !== undefined && interpreter.size <= NAME_SIZE) {
      want(watch, LOADER_CACHE);
      want(watch, baseName(await read(served, start, interpreter.offset, interpreter.size)));
    }
    // The names first: the libraries wait for them.
    const names = neededNames(served, start, program);
    send(served, start, Math.min(limit, program.size <= whole ? program.size : BEGINNING));
    for (const name of await names) want(watch, name);
  }

  async function neededNames(served: ServedBlob, start: number, program: Program): Promise<string[]> {
    const { dynamic } = program;
    if (dynamic === undefined || dynamic.size > MOST_DYNAMIC) return [];
    const names = readDynamic(program, await read(served, start, dynamic.offset, dynamic.size));
    return Promise.all(names.map(async (offset) => baseName(await read(served, start, offset, NAME_SIZE))));
  }

  function want(watch: Watched, name: string): void {
    const library = watch.libraries.get(name);
    const served = library && watch.image.blobs[library.blob];
    if (library === undefined || served === undefined) return;
    send(served, library.offset, library.length <= WHOLE_LIBRARY ? library.length : BEGINNING);
    look(watch, library.blob, library.offset);
  }

  /** @param start of the file in the blob @param offset in the file */
  async function read(served: ServedBlob, start: number, offset: number, length: number): Promise<Uint8Array> {
    const place = placeInFile(served.cached.chunks, start, offset);
    return Buffer.concat(await blobs.read(served, place, length, never));
  }

  function expect(image: AttachedImage): void {
    const watch = watched.get(image);
    if (watch === undefined) return;
    for (const name of watch.libraries.keys()) if (COMMON.test(name)) want(watch, name);
  }

  return {
    expect,
    watch(image, libraries) {
      watched.set(image, { image, libraries, seen: new Set() });
      image.onRelease(() => void watched.delete(image));
    },
    arrived,
  };
}
