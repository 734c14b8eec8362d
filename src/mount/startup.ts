import type { CachedBlob } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { StartupFiles } from '../formats/rafs/startup-files.ts';
import type { BlobRange } from '../image/image.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { createAhead } from './ahead.ts';
import type { AttachedImage } from './attach.ts';
import type { Program } from './program.ts';
import type { ProgramRequest } from './program-job.ts';
import type { ServedBlobs } from './served.ts';
import type { StartupFilesRequest } from './startup-files-job.ts';
import { type ModuleReadahead, watchModules } from './startup-modules.ts';
import { type ProgramReadahead, watchPrograms } from './startup-programs.ts';
import type { Tracing } from './tracing.ts';

/**
 * Start-up readahead. A program that starts reads its interpreter, then one library after another, and a Python program
 * one module after another: each a round trip that waits for the one before. All of it stands in the files themselves:
 * so when the first chunk of one arrives, those that it names are sent for at once. Cold start of Python at 10 ms: 24
 * round trips one after another become 8.
 *
 * It only fetches; a wrong guess costs bytes, never correctness, and whatever fails here is left to the real reads.
 */
export interface Startup {
  /** Looks after the programs of an image until it is released. What arrives before its files are known is not forgotten. */
  watch(image: AttachedImage, files: Promise<StartupFiles>): void;
  /** Sends for what every program of a watched image needs first: the loader and the C library (about 1 MB), and the accounts. */
  expect(image: AttachedImage): void;
  /** Sends for what a program of a watched image needs, before it is read. @throws NymphError */
  run(image: AttachedImage, program: Program): Promise<void>;
  /** A reader waits for the byte at `offset` of a blob. */
  awaited(blob: CachedBlob, offset: number): void;
  /** A chunk that a reader waited for has arrived at `offset` of a blob. @param isProgram it begins like one */
  arrived(blob: CachedBlob, offset: number, isProgram: boolean): void;
}

interface Readahead {
  programs: ProgramReadahead;
  modules?: ModuleReadahead;
}

interface Watched {
  readahead?: Readahead;
  /** What was asked for and what arrived before its files were known. */
  early: ((readahead: Readahead) => void)[];
}

/** Finds the files of an image that name others. */
export const STARTUP_FILES = jobBeside<StartupFilesRequest, StartupFiles>(import.meta.url, 'startup-files-job');

/** Finds the files that a command line names. */
export const PROGRAM = jobBeside<ProgramRequest, BlobRange[]>(import.meta.url, 'program-job');

/** @param tracing is told of what is sent for */
export function createStartup(
  blobs: ServedBlobs,
  pool: ThreadPool,
  tracing: Pick<Tracing, 'expected'>,
  log: FetchContext['log'],
): Startup {
  const watched = new Map<AttachedImage, Watched>();
  const ahead = createAhead(blobs, (blob, { offset, length }) => tracing.expected(blob, offset, length), log);

  async function index(image: AttachedImage, files: Promise<StartupFiles>, entry: Watched): Promise<void> {
    try {
      const { modules, ...programs } = await files;
      const readahead: Readahead = {
        programs: watchPrograms(image, programs, ahead),
        ...(modules && { modules: watchModules(image, modules, ahead, pool) }),
      };
      entry.readahead = readahead;
      if (watched.get(image) === entry) for (const event of entry.early) event(readahead);
    } catch (error) {
      watched.delete(image);
      log('warn', 'no start-up readahead', { image: image.stored.reference, error: String(error) });
    }
    entry.early = [];
  }

  function tell(image: AttachedImage, event: (readahead: Readahead) => void): void {
    const entry = watched.get(image);
    if (entry?.readahead !== undefined) event(entry.readahead);
    else entry?.early.push(event);
  }

  /** Tells every image that has the blob. */
  function tellAll(cached: CachedBlob, event: (readahead: Readahead, blob: number) => void): void {
    for (const image of watched.keys()) {
      const blob = image.blobs.findIndex((served) => served.cached === cached);
      if (blob >= 0) tell(image, (readahead) => event(readahead, blob));
    }
  }

  return {
    watch(image, files) {
      const entry: Watched = { early: [] };
      watched.set(image, entry);
      image.onRelease(() => void watched.delete(image));
      void index(image, files, entry);
    },
    expect: (image) => tell(image, ({ programs }) => programs.expect()),
    async run(image, program) {
      if (!watched.has(image)) return;
      const files = await pool.run(PROGRAM, { bootstrap: image.bootstrap, program });
      tell(image, ({ programs, modules }) => {
        for (const { blob, offset } of files) {
          programs.awaited(blob, offset);
          programs.arrived(blob, offset);
          modules?.met(blob, offset);
        }
      });
    },
    awaited(cached, offset) {
      tellAll(cached, ({ programs, modules }, blob) => {
        programs.awaited(blob, offset);
        modules?.met(blob, offset);
      });
    },
    arrived(cached, offset, isProgram) {
      tellAll(cached, ({ programs, modules }, blob) => {
        if (isProgram) programs.arrived(blob, offset);
        modules?.met(blob, offset);
      });
    },
  };
}
