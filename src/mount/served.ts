import { read as readFile } from 'node:fs';
import { promisify } from 'node:util';
import type { Cache, CachedBlob } from '../cache/cache.ts';
import { clearReady, isReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { createFetcher } from '../fetch/fetcher.ts';
import type { LooseChunk } from '../fetch/flight.ts';
import { fetcherOnDemand } from '../fetch/on-demand.ts';
import { seekableTar } from '../formats/tar/bytes.ts';
import { indexDigest } from '../formats/tar/index-digest.ts';
import { tarMembers } from '../formats/tar/members.ts';
import type { Driver } from '../fuse/driver.ts';
import type { PieceChecksum } from '../image/files.ts';
import { createAlternatives } from '../sources/alternatives.ts';
import type { Source } from '../sources/source.ts';
import type { Entry, ServedBlob } from './served-entry.ts';
import { storedElsewhere } from './stored-elsewhere.ts';
import { createWholes, type WholeCheck } from './wholes.ts';

export type { ServedBlob } from './served-entry.ts';

export interface ServedBlobs {
  /**
   * Serves an open cache entry, which it takes over, from `source` too; each `serve` needs one `release`.
   * @param strict nothing of it is read before the whole is found right; for as long as one of its users wants that
   * @param pieces checksums: what does not have its own is fetched once more, until the whole is checked
   */
  serve(cached: CachedBlob, source: Source, strict?: boolean, pieces?: readonly PieceChecksum[]): Promise<ServedBlob>;
  release(served: ServedBlob): Promise<void>;
  byIno(ino: number): ServedBlob | undefined;
  list(): ServedBlob[];
  /** A reader waits for bytes, or has come to a mark: what fills in the background goes there. */
  seen(ino: number, offset: number): void;
  /** Waits for the check of a complete file whose chunks have no digests. @throws NymphError `corrupt` if it is wrong */
  checked(served: ServedBlob, signal: AbortSignal): Promise<void>;
  /**
   * Reads the headers of a tar again once the whole is found right: if they do not say what they said before (`index`), files
   * are not where they were taken to be, and it counts as wrong. Never rejects.
   */
  confirm(served: ServedBlob, index: string, signal: AbortSignal): Promise<void>;
  /** Hashes a complete file whose chunks have no digests; one that is wrong is fetched once more. */
  recheck(served: ServedBlob, signal: AbortSignal): Promise<WholeCheck>;
  /** Bytes of the blob, fetched first where they are not here. */
  read(served: ServedBlob, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array[]>;
}

const readFd = promisify(readFile);

/** @param dropPages has the kernel forget what it has read of a blob */
export function createServedBlobs(
  cache: Cache,
  driver: Driver,
  shared: FetchContext,
  dropPages: (cached: CachedBlob) => Promise<void> = async () => {},
): ServedBlobs {
  const entries = new Map<number, Entry>();
  const context: FetchContext = {
    ...shared,
    changed(blob) {
      shared.changed(blob);
      wholes.changed(blob);
    },
  };
  const wholes = createWholes(cache, driver, context, dropPages);

  async function serve(
    cached: CachedBlob,
    source: Source,
    strict = false,
    pieces?: readonly PieceChecksum[],
  ): Promise<ServedBlob> {
    let known = entries.get(cached.ino);
    while (known?.closing !== undefined) {
      // Who closes it hears of what goes wrong there.
      await known.closing.catch(() => {});
      known = entries.get(cached.ino);
    }
    const entry = known ?? open(cached, pieces);
    entry.pieces ??= pieces;
    const served: ServedBlob = { cached: entry.cached, fetcher: entry.fetcher, seen: entry.seen };
    // Before anything is waited for: whoever else uses it may go meanwhile, and it would be closed.
    entry.users.set(served, source);
    entry.places.push(source);
    if (strict) await wholes.hide(entry);
    // The entry holds one reference on the cache for all its users.
    if (known !== undefined) await cache.release(cached);
    return served;
  }

  function open(cached: CachedBlob, pieces: Entry['pieces']): Entry {
    const places: Source[] = [];
    const fetcher = fetcherOnDemand(cached, () => {
      const from = createAlternatives(`blob ${cached.key}`, places);
      const elsewhere = storedElsewhere(cached, from, cache, context.log);
      const made = createFetcher(cached, elsewhere.source, context);
      return {
        ...made,
        async close() {
          await made.close();
          await elsewhere.close();
        },
      };
    });
    const base = { cached, fetcher, places, seen: {}, pieces };
    const entry: Entry = { ...base, users: new Map(), reads: new Set(), closing: undefined };
    entries.set(cached.ino, entry);
    wholes.admit(entry);
    return entry;
  }

  async function release(served: ServedBlob): Promise<void> {
    const entry = entries.get(served.cached.ino);
    const place = entry?.users.get(served);
    if (entry === undefined || place === undefined) return;
    entry.places.splice(entry.places.indexOf(place), 1);
    entry.users.delete(served);
    if (entry.users.size > 0) return;
    entry.closing = shut(entry);
    await entry.closing;
  }

  async function shut(entry: Entry): Promise<void> {
    try {
      await entry.fetcher.close();
      await driver.unregister(entry.cached.ino);
      await wholes.leave(entry);
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

  async function readBlob(entry: Entry, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array[]> {
    const { cached } = entry;
    await wholes.mayRead(entry, signal);
    const count = Math.max(0, Math.min(length, cached.size - offset));
    if (count === 0) return [];
    for (let attempt = 0; ; attempt++) {
      const loose = isReady(cached.ready, offset, count) ? [] : await needed(entry, offset, count, signal);
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

  async function needed(entry: Entry, offset: number, length: number, signal: AbortSignal): Promise<LooseChunk[]> {
    shared.awaited(entry.cached, offset);
    try {
      return await entry.fetcher.need(offset, length, signal);
    } catch (error) {
      // A file that was found wrong meanwhile is fetched no more, which says less than why.
      await wholes.mayRead(entry, signal);
      throw error;
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
    seen(ino, offset) {
      const entry = entries.get(ino);
      if (entry !== undefined) noteReader(entry, offset);
    },
    checked: wholes.checked,
    async confirm(tar, index, signal) {
      // What keeps it from being right is said where that is found.
      const isRight = await wholes.checked(tar, signal).then(
        () => true,
        () => false,
      );
      if (!isRight || signal.aborted) return;
      try {
        const readAt = async (at: number, length: number) => Buffer.concat(await read(tar, at, length, signal));
        const members = await tarMembers(seekableTar(readAt, tar.cached.size), `blob ${tar.cached.key}`);
        if (indexDigest(members) !== index) await wholes.reject(tar);
      } catch (error) {
        if (signal.aborted) return;
        const { message } = error as Error;
        shared.log('warn', 'the headers of a tar were not compared', { blob: tar.cached.key, error: message });
      }
    },
    recheck: wholes.recheck,
    read,
  };
}

/** One that goes on where it was keeps what is filled ahead of it. */
function noteReader({ seen }: Entry, offset: number): void {
  const { reader } = seen;
  const goesOn = reader !== undefined && offset >= reader.offset && offset <= reader.filled;
  seen.reader = { offset, at: performance.now(), filled: goesOn ? reader.filled : offset };
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
