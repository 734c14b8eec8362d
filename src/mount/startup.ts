import type { CachedBlob } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { StartupFiles } from '../formats/rafs/startup-files.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { createAhead } from './ahead.ts';
import type { AttachedImage } from './attach.ts';
import type { ServedBlobs } from './served.ts';
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
  /** Looks after the programs of an image until it is released. */
  watch(image: AttachedImage, files: StartupFiles): void;
  /** Sends for what every program of a watched image needs first: the loader and the C library (about 1 MB). */
  expect(image: AttachedImage): void;
  /** A chunk that a reader waited for has arrived at `offset` of a blob. @param isProgram it begins like one */
  arrived(blob: CachedBlob, offset: number, isProgram: boolean): void;
}

interface Watched {
  programs: ProgramReadahead;
  modules?: ModuleReadahead;
}

/** @param tracing is told of what is sent for */
export function createStartup(
  blobs: ServedBlobs,
  pool: ThreadPool,
  tracing: Pick<Tracing, 'expected'>,
  log: FetchContext['log'],
): Startup {
  const watched = new Map<AttachedImage, Watched>();
  const ahead = createAhead(blobs, (blob, { offset, length }) => tracing.expected(blob, offset, length), log);

  return {
    watch(image, { libraries, modules }) {
      watched.set(image, {
        programs: watchPrograms(image, libraries, ahead),
        ...(modules && { modules: watchModules(image, modules, ahead, pool) }),
      });
      image.onRelease(() => void watched.delete(image));
    },
    expect: (image) => watched.get(image)?.programs.expect(),
    arrived(cached, offset, isProgram) {
      for (const [image, { programs, modules }] of watched) {
        if (!isProgram && modules === undefined) continue;
        const blob = image.blobs.findIndex((served) => served.cached === cached);
        if (blob < 0) continue;
        if (isProgram) programs.arrived(blob, offset);
        modules?.arrived(blob, offset);
      }
    },
  };
}
