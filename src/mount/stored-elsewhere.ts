import type { Cache, CachedBlob } from '../cache/cache.ts';
import { isReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { Range } from '../fetch/fetcher.ts';
import { firstFrameFrom } from '../fetch/frame-index.ts';
import { CODECS } from '../image/image.ts';
import { openFileSource } from '../sources/file-source.ts';
import type { Source } from '../sources/source.ts';

/** Reads of a stored object of which another entry of the cache may have the bytes. */
export interface StoredElsewhere {
  /** Reads there what is there, and all else where it comes from. */
  readonly source: Source;
  /** Gives the other entries back. */
  close(): Promise<void>;
}

/** Name of the source for what was read there. */
export const CACHE = 'cache';

/** Other entries stay open for so long after the last read, ms: to open one takes three files. */
const KEEP_MS = 5_000;

const PLAIN = CODECS.indexOf('none');

/**
 * One object can be kept twice: a file of a model as it stands, and decoded as the blob of a Nydus image. What the one has is
 * not fetched for the other.
 */
export function storedElsewhere(
  cached: CachedBlob,
  from: Source,
  cache: Pick<Cache, 'others' | 'reopen' | 'release'>,
  log: FetchContext['log'],
): StoredElsewhere {
  const held = new Map<string, Promise<CachedBlob | undefined>>();
  const given = new WeakSet<AsyncIterable<Uint8Array>>();
  let readers = 0;
  let idle: NodeJS.Timeout | undefined;
  /** What was read there was wrong, or the disk did not give it. */
  let useless = false;
  let wasHere = false;

  /** What other entries have of a range, while it is read; who gets it says when that is over. */
  async function find(offset: number, length: number): Promise<{ blob: CachedBlob; places: Range[] } | undefined> {
    const keys = useless ? [] : cache.others(cached);
    if (keys.length === 0) return undefined;
    readers++;
    clearTimeout(idle);
    for (const key of keys) {
      const blob = await hold(key);
      const places = blob && isSure(blob, cached) ? placesOf(blob, offset, length) : undefined;
      if (blob && places) return { blob, places };
    }
    leave();
    return undefined;
  }

  function hold(key: string): Promise<CachedBlob | undefined> {
    const known = held.get(key);
    if (known !== undefined) return known;
    const opened = cache.reopen(key).catch((error) => {
      log('warn', 'an entry of the cache cannot be read for another one', { blob: key, error: String(error) });
      return undefined;
    });
    held.set(key, opened);
    return opened;
  }

  function leave(): void {
    readers--;
    if (readers === 0) idle = setTimeout(() => void release(), KEEP_MS).unref();
  }

  async function release(): Promise<void> {
    clearTimeout(idle);
    const opened = [...held.values()];
    held.clear();
    for (const blob of await Promise.all(opened)) {
      if (blob === undefined) continue;
      await cache.release(blob).catch((error) => {
        log('error', 'an entry of the cache cannot be given back', { blob: blob.key, error: String(error) });
      });
    }
  }

  async function* stream(blob: CachedBlob, places: Range[], signal: AbortSignal): AsyncGenerator<Uint8Array> {
    const file = openFileSource(CACHE, blob.dataPath, `the cached blob ${blob.key}`, blob.size);
    try {
      for (const { offset, length } of places)
        for await (const piece of await file.read(offset, length, signal)) {
          if (!isSure(blob, cached))
            throw new NymphError('cache', `blob ${blob.key} was found wrong while it was read`);
          yield piece;
        }
    } catch (error) {
      if (signal.aborted) throw error;
      doubt(error);
      throw new NymphError('cache', (error as Error).message, { retryable: true, cause: error });
    } finally {
      leave();
    }
  }

  function doubt(error: unknown): void {
    useless = true;
    log('warn', 'what the cache has of a blob in another entry is of no use: it is fetched', {
      blob: cached.key,
      error: String(error),
    });
  }

  const source: Source = {
    get name() {
      return wasHere ? CACHE : from.name;
    },
    get amplify() {
      return from.amplify;
    },
    async read(offset, length, signal) {
      const found = await find(offset, length);
      if (found === undefined) {
        const elsewhere = await from.read(offset, length, signal);
        wasHere = false;
        return elsewhere;
      }
      const here = stream(found.blob, found.places, signal);
      given.add(here);
      wasHere = true;
      return here;
    },
    async location(signal, refusals) {
      const { count, offset, size } = cached.frames;
      const found = count === 0 ? undefined : await find(0, offset[count - 1] + size[count - 1]);
      if (found === undefined) return from.location?.(signal, refusals);
      leave();
      // Nobody else has to bring it.
      return undefined;
    },
    distrust(bytes) {
      if (given.has(bytes)) doubt('it has other bytes');
      else from.distrust?.(bytes);
    },
  };

  return { source, close: release };
}

/**
 * Whether what another entry has may be taken for the stored object of a blob. It was found right as a whole; or digests
 * of its chunks vouch for it, which are those of other images, so that the blob needs digests of its own.
 */
function isSure(other: CachedBlob, { digest, digestAlgorithm }: CachedBlob): boolean {
  if (other.digest !== digest || other.cipher !== undefined || other.frames.contexts !== undefined) return false;
  return other.standing === 'right' || (other.standing === undefined && digestAlgorithm !== 'none');
}

/**
 * Where a range of the stored object is in the file of an entry that keeps it as it stands; undefined if it does not have all of
 * it. Chunks and frames go in step there: in files of models, and in blobs of images without compression.
 */
function placesOf({ chunks, frames, ready }: CachedBlob, offset: number, length: number): Range[] | undefined {
  const places: Range[] = [];
  const end = offset + length;
  let i = firstFrameFrom(frames, offset);
  if (frames.offset[i] !== offset) i--;
  for (let at = offset; at < end; i++) {
    const start = frames.offset[i];
    const size = chunks.size[i];
    const isInStep = i < frames.count && i < chunks.count && chunks.frame[i] === i && chunks.frameOffset[i] === 0;
    if (!(isInStep && frames.codec[i] === PLAIN && frames.size[i] === size && start <= at && at < start + size))
      return undefined;
    if (!isReady(ready, chunks.offset[i], size)) return undefined;
    const place = { offset: chunks.offset[i] + at - start, length: Math.min(end, start + size) - at };
    const last = places.at(-1);
    if (last !== undefined && last.offset + last.length === place.offset) last.length += place.length;
    else places.push(place);
    at += place.length;
  }
  return places;
}
