import type { Cache, CachedBlob } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import { type BlobRange, firstChunkAfter } from '../image/image.ts';
import { formatTrace, type Trace } from '../image/trace.ts';
import { jobBeside } from '../threads/job.ts';
import type { AttachedImage } from './attach.ts';
import type { TraceFilesRequest } from './trace-files-job.ts';

/**
 * Remembers what is read first of each image after it was mounted, for the next start: here, and on other nodes by way of
 * the registry. Noted is what was sent for, by readers and by start-up readahead; what a trace brought was noted before.
 */
export interface Tracing {
  /** Begins, when an image is mounted; ends by itself. */
  begin(image: AttachedImage): void;
  /** The start of an image was given a trace: what is noted is added to it. */
  given(image: AttachedImage, trace: Trace): void;
  /** A chunk that a reader waited for has arrived. */
  arrived(cached: CachedBlob, offset: number): void;
  /** Bytes were sent for that a reader is expected to want. */
  expected(cached: CachedBlob, offset: number, length: number): void;
  /** The trace of an image as it is by now. */
  of(image: AttachedImage): string | undefined;
}

interface Recording {
  image: AttachedImage;
  /** In order, by `<blob>:<offset>`. */
  ranges: Map<string, BlobRange>;
}

/** Which files a trace is about. */
export const TRACE_FILES = jobBeside<TraceFilesRequest, string[]>(import.meta.url, 'trace-files-job');

/** After the mount, ms: a start takes seconds; a server that has started reads what its clients want. */
const WINDOW_MS = 30_000;
/** A trace that has so many ranges is not of a start. */
const MOST_RANGES = 20_000;

export function createTracing(cache: Pick<Cache, 'putTrace'>, log: FetchContext['log']): Tracing {
  const recordings = new Map<AttachedImage, Recording>();

  function note(cached: CachedBlob, offset: number, length: number): void {
    for (const { image, ranges } of recordings.values()) {
      const blob = image.blobs.findIndex((served) => served.cached === cached);
      const key = `${blob}:${offset}`;
      if (blob >= 0 && ranges.size < MOST_RANGES && !ranges.has(key)) ranges.set(key, { blob, offset, length });
    }
  }

  async function end(recording: Recording): Promise<void> {
    const { image, ranges } = recording;
    if (recordings.get(image) !== recording) return;
    recordings.delete(image);
    if (ranges.size === 0) return;
    const { digest, reference } = image.stored;
    try {
      await cache.putTrace(digest, formatTrace([...ranges.values()]));
      log('debug', 'a start was traced', { image: reference, ranges: ranges.size });
    } catch (error) {
      log('warn', 'the trace of a start cannot be kept', { image: reference, error: (error as Error).message });
    }
  }

  return {
    begin(image) {
      const recording: Recording = { image, ranges: new Map() };
      recordings.set(image, recording);
      const timer = setTimeout(() => void end(recording), WINDOW_MS).unref();
      image.onRelease(() => {
        clearTimeout(timer);
        return end(recording);
      });
    },
    given(image, trace) {
      const recording = recordings.get(image);
      if (recording === undefined) return;
      const { ranges } = recording;
      for (const range of trace) ranges.set(`${range.blob}:${range.offset}`, range);
    },
    arrived(cached, offset) {
      if (recordings.size === 0) return;
      const { chunks } = cached;
      const index = firstChunkAfter(chunks, offset);
      if (index < chunks.count) note(cached, chunks.offset[index], chunks.size[index]);
    },
    expected: note,
    of(image) {
      const recording = recordings.get(image);
      return recording && formatTrace([...recording.ranges.values()]);
    },
  };
}
