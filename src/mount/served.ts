import { read as readFile } from 'node:fs';
import { promisify } from 'node:util';
import type { Cache, CachedBlob } from '../cache/cache.ts';
import { clearReady, isReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { type BlobFetcher, createFetcher } from '../fetch/fetcher.ts';
import type { LooseChunk } from '../fetch/flight.ts';
import type { Driver } from '../fuse/driver.ts';
import { type Alternatives, createAlternatives } from '../sources/alternatives.ts';
import type { Source } from '../sources/source.ts';

/** A blob that is open: cached, fetched, and visible to the FUSE driver. Shared by all mounts and pulls that use it. */
export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly fetcher: BlobFetcher;
}

export interface ServedBlobs {
  /** Serves an open cache entry, which it takes over, from `source` too; each `serve` needs one `release`. */
  serve(cached: CachedBlob, source: Source): Promise<ServedBlob>;
  release(served: ServedBlob): Promise<void>;
  byIno(ino: number): ServedBlob | undefined;
  list(): ServedBlob[];
  /** Bytes of the blob, fetched first where they are not here. */
  read(served: ServedBlob, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array[]>;
}

interface Entry extends ServedBlob {
  readonly sources: Alternatives;
  /** What `serve` has given out, and how to take its source away. */
  users: Map<ServedBlob, () => void>;
  /** Reads of the descriptor that are under way in this thread's pool. */
  reads: Set<Promise<unknown>>;
  closing: Promise<void> | undefined;
}

const readFd = promisify(readFile);

export function createServedBlobs(cache: Cache, driver: Driver, context: FetchContext): ServedBlobs {
  const entries = new Map<number, Entry>();

  async function serve(cached: CachedBlob, source: Source): Promise<ServedBlob> {
    let known = entries.get(cached.ino);
    while (known?.closing !== undefined) {
      // Who closes it hears of what goes wrong there.
      await known.closing.catch(() => {});
      known = entries.get(cached.ino);
    }
    const entry = known ?? open(cached);
    const served: ServedBlob = { cached: entry.cached, fetcher: entry.fetcher };
    entry.users.set(served, entry.sources.add(source));
    // The entry holds one reference on the cache for all its users.
    if (known !== undefined) await cache.release(cached);
    return served;
  }

  function open(cached: CachedBlob): Entry {
    const sources = createAlternatives(`blob ${cached.key}`);
    const fetcher = createFetcher(cached, sources.source, context);
    const entry: Entry = { cached, fetcher, sources, users: new Map(), reads: new Set(), closing: undefined };
    entries.set(cached.ino, entry);
    driver.register({ ino: cached.ino, size: cached.size, fd: cached.fd, ready: cached.ready });
    return entry;
  }

  async function release(served: ServedBlob): Promise<void> {
    const entry = entries.get(served.cached.ino);
    const leave = entry?.users.get(served);
    if (entry === undefined || leave === undefined) return;
    leave();
    entry.users.delete(served);
    if (entry.users.size > 0) return;
    entry.closing = shut(entry);
    await entry.closing;
  }

  async function shut(entry: Entry): Promise<void> {
    try {
      await entry.fetcher.close();
      await driver.unregister(entry.cached.ino);
      // The descriptor's number may soon mean another file.
      await Promise.allSettled(entry.reads);
    } finally {
      entries.delete(entry.cached.ino);
      await cache.release(entry.cached);
    }
  }

  function read(served: ServedBlob, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array[]> {
    const entry = entries.get(served.cached.ino);
    if (entry === undefined || entry.fetcher !== served.fetcher || entry.closing !== undefined)
      return Promise.reject(new NymphError('cancelled', `blob ${served.cached.key} is being closed`));
    const reading = readBlob(entry, offset, length, signal).finally(() => entry.reads.delete(reading));
    entry.reads.add(reading);
    return reading;
  }

  async function readBlob(
    served: ServedBlob,
    offset: number,
    length: number,
    signal: AbortSignal,
  ): Promise<Uint8Array[]> {
    const { cached, fetcher } = served;
    const count = Math.max(0, Math.min(length, cached.size - offset));
    if (count === 0) return [];
    for (let attempt = 0; ; attempt++) {
      const loose = isReady(cached.ready, offset, count) ? [] : await fetcher.need(offset, count, signal);
      const bytes = Buffer.allocUnsafe(count);
      const got = await readLocal(cached, bytes, offset);
      if (got === count || covered(loose, offset + got, count - got)) {
        overlay(bytes, offset, loose);
        return [bytes];
      }
      if (attempt > 0) throw new NymphError('cache', `cannot read back blob ${cached.key} at ${offset + got}`);
      // A bad sector, or somebody cut the file: what the map says is not true, so fetch it once more.
      context.log('error', 'cached bytes cannot be read, fetching them again', {
        blob: cached.key,
        offset: offset + got,
      });
      clearReady(cached.ready, offset, count);
      context.changed(cached);
    }
  }

  async function readLocal(cached: CachedBlob, bytes: Buffer, offset: number): Promise<number> {
    try {
      const { bytesRead } = await readFd(cached.fd, bytes, 0, bytes.length, offset);
      return bytesRead;
    } catch {
      return 0;
    }
  }

  return {
    serve,
    release,
    byIno: (ino) => entries.get(ino),
    list: () => [...entries.values()],
    read,
  };
}

/** True if chunks that are in memory alone hold all of a range that the file could not give. */
function covered(loose: LooseChunk[], offset: number, length: number): boolean {
  let at = offset;
  for (const chunk of [...loose].sort((a, b) => a.offset - b.offset)) {
    if (chunk.offset <= at && at < chunk.offset + chunk.bytes.length) at = chunk.offset + chunk.bytes.length;
  }
  return at >= offset + length;
}

function overlay(bytes: Buffer, offset: number, loose: LooseChunk[]): void {
  for (const chunk of loose) {
    const from = Math.max(offset, chunk.offset);
    const to = Math.min(offset + bytes.length, chunk.offset + chunk.bytes.length);
    if (from < to) bytes.set(chunk.bytes.subarray(from - chunk.offset, to - chunk.offset), from - offset);
  }
}
