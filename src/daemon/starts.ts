import type { Cache, StoredImage } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import { isOfFiles } from '../image/image.ts';
import { parseTrace } from '../image/trace.ts';
import type { AttachedImage } from '../mount/attach.ts';
import { fetchModel } from '../mount/fill.ts';
import { fetchHeaders } from '../mount/headers.ts';
import type { Mounts } from '../mount/mounts.ts';
import type { OpenedImage } from '../mount/open.ts';
import type { Program } from '../mount/program.ts';
import { fetchAll, fetchListed, fetchRanges } from '../mount/pull.ts';
import type { ServedBlobs } from '../mount/served.ts';
import type { Startup } from '../mount/startup.ts';
import { TRACE_FILES, type Tracing } from '../mount/tracing.ts';
import type { Prefetch, TraceInfo } from './api.ts';

/** What is fetched of an image that is being mounted before anybody reads it. */
export interface Starts {
  /** Sends for it, in the background. */
  begin(image: AttachedImage, prefetch: Prefetch, options: StartOptions): void;
  /** Sends for what a program needs that will run in an image which was never started here, in the background. */
  foresee(image: AttachedImage, find: FindProgram): void;
  /** What was read first of an image. */
  trace(stored: StoredImage): Promise<TraceInfo>;
}

/** Tells what will be run, as soon as that is known. */
export type FindProgram = (signal: AbortSignal) => Promise<Program | undefined>;

export interface StartOptions {
  /** Nothing of it is read before it was compared with a digest. */
  strict: boolean;
  /** What starts on other nodes read. */
  elsewhere?: OpenedImage['trace'];
}

export interface StartParts {
  cache: Cache;
  blobs: ServedBlobs;
  mounts: Mounts;
  startup: Startup;
  tracing: Tracing;
  context: FetchContext;
}

export function createStarts({ cache, blobs, mounts, startup, tracing, context }: StartParts): Starts {
  const { log } = context;

  async function background(image: AttachedImage, prefetch: Prefetch, strict: boolean): Promise<void> {
    const { signal } = image.ending;
    try {
      if (isOfFiles(image.stored)) {
        if (prefetch === 'image') await fetchHeaders(image, blobs, strict, signal);
        else if (prefetch === 'all') await fetchModel(image, blobs, strict, context, signal);
      } else if (prefetch === 'image') await fetchListed(image, signal);
      else if (prefetch === 'all') await fetchAll(image, () => {}, signal);
    } catch (error) {
      if (!signal.aborted)
        log('warn', 'prefetch ended early', { image: image.stored.reference, error: (error as Error).message });
    }
  }

  /** Sends for what starts of the image have read before, here or elsewhere. */
  async function repeatStart(
    image: AttachedImage,
    prefetch: Prefetch,
    elsewhere: OpenedImage['trace'] | undefined,
  ): Promise<void> {
    const { signal } = image.ending;
    const { reference, digest } = image.stored;
    try {
      const text = (await cache.trace(digest)) ?? (await elsewhere);
      if (text === undefined) return;
      const trace = parseTrace(
        text,
        image.blobs.map(({ cached }) => cached.size),
      );
      tracing.given(image, trace);
      if (prefetch === 'image') await fetchRanges(image, trace, signal);
    } catch (error) {
      if (!signal.aborted)
        log('warn', 'what a start needs is not fetched ahead', { image: reference, error: (error as Error).message });
    }
  }

  /** Images of which a container was foreseen: what others read of them is mostly the same, and asking takes its time. */
  const foreseen = new WeakSet<AttachedImage>();

  async function foresee(image: AttachedImage, find: FindProgram): Promise<void> {
    const { signal } = image.ending;
    const { reference, digest } = image.stored;
    try {
      if (foreseen.has(image) || (await cache.trace(digest)) !== undefined) return;
      const program = await find(signal);
      if (program === undefined || foreseen.has(image)) return;
      foreseen.add(image);
      await startup.run(image, program);
    } catch (error) {
      if (!signal.aborted)
        log('debug', 'what a container runs is not foreseen', { image: reference, why: (error as Error).message });
    }
  }

  async function trace(stored: StoredImage): Promise<TraceInfo> {
    const { digest, reference } = stored;
    const active = mounts.list().find((mount) => mount.stored.digest === digest);
    const text = (active && tracing.of(active.image)) || ((await cache.trace(digest)) ?? '');
    const ranges = parseTrace(
      text,
      stored.blobs.map(({ size }) => size),
    );
    const files = await context.pool.run(TRACE_FILES, { bootstrap: cache.bootstrapPath(digest), trace: ranges });
    return { reference, digest, trace: text, bytes: ranges.reduce((sum, { length }) => sum + length, 0), files };
  }

  return {
    begin(image, prefetch, { strict, elsewhere }) {
      if (prefetch !== 'none') startup.expect(image);
      void background(image, prefetch, strict);
      // Files as they stand are large, and their readers go through them in order.
      if (isOfFiles(image.stored)) return;
      tracing.begin(image);
      void repeatStart(image, prefetch, elsewhere);
    },
    foresee: (image, find) => void foresee(image, find),
    trace,
  };
}
