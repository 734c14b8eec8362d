/** A blob of random chunks with a cache entry in a temporary file, for tests of fetching. */
import { hash, randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { zstdCompressSync } from 'node:zlib';
import type { CachedBlob } from '../src/cache/cache.ts';
import { createReadyMap } from '../src/cache/ready-map.ts';
import { NymphError } from '../src/errors.ts';
import type { FetchContext } from '../src/fetch/context.ts';
import { createGate } from '../src/fetch/gate.ts';
import { DEFAULT_POLICY, type FetchPolicy } from '../src/fetch/policy.ts';
import { createRace } from '../src/fetch/race.ts';
import { createFetchStatistics } from '../src/fetch/statistics.ts';
import { BLOCK_SIZE, CODECS } from '../src/image/image.ts';
import type { Source } from '../src/sources/source.ts';
import type { ThreadPool } from '../src/threads/pool.ts';

export interface TestBlob {
  cached: CachedBlob;
  /** The stored object, and what it decodes to in the blob's address space. */
  stored: Buffer;
  flat: Buffer;
  close(): void;
}

/** @param sizes uncompressed bytes of each chunk. @param data another file to write to, e.g. /dev/full. */
export function makeBlob(sizes: number[], data?: string): TestBlob {
  const count = sizes.length;
  const contents = sizes.map((size) =>
    Buffer.concat([randomBytes(Math.ceil(size / 2)), Buffer.alloc(Math.floor(size / 2))]),
  );
  const frames = contents.map((bytes) => zstdCompressSync(bytes));
  const offsets: number[] = [];
  let size = 0;
  for (const bytes of contents) {
    offsets.push(size);
    size += Math.ceil(bytes.length / BLOCK_SIZE) * BLOCK_SIZE;
  }
  const flat = Buffer.alloc(size);
  for (const [i, bytes] of contents.entries()) bytes.copy(flat, offsets[i]);
  const directory = mkdtempSync(join(tmpdir(), 'nymph-blob-'));
  const dataPath = data ?? join(directory, 'data');
  if (data === undefined) {
    writeFileSync(dataPath, '');
    truncateSync(dataPath, size);
  }
  const fd = openSync(dataPath, 'r+');
  let at = 0;
  const frameOffsets = frames.map((frame) => {
    at += frame.length;
    return at - frame.length;
  });
  const digest = new Uint8Array(32 * count);
  for (const [i, bytes] of contents.entries()) digest.set(hash('sha256', bytes, 'buffer'), 32 * i);
  const stored = Buffer.concat(frames);
  const id = hash('sha256', stored);
  const cached: CachedBlob = {
    key: id,
    id,
    ino: 1 << 20,
    digest: `sha256:${id}`,
    digestAlgorithm: 'sha256',
    size,
    dataPath,
    fd,
    ready: createReadyMap(size),
    chunks: {
      count,
      offset: Float64Array.from(offsets),
      size: Uint32Array.from(sizes),
      digest,
      frame: Uint32Array.from(sizes.keys()),
      frameOffset: new Uint32Array(count),
    },
    frames: {
      count,
      offset: Float64Array.from(frameOffsets),
      size: Uint32Array.from(frames, (frame) => frame.length),
      decodedSize: Uint32Array.from(sizes),
      codec: new Uint8Array(count).fill(CODECS.indexOf('zstd')),
    },
  };
  return {
    cached,
    stored,
    flat,
    close() {
      closeSync(fd);
      rmSync(directory, { recursive: true });
    },
  };
}

/** One request that a {@link scriptedSource} got. */
export interface Asked {
  offset: number;
  length: number;
}

/**
 * A source over bytes in memory that does what a script says for each request, in order; after the script's end it
 * serves rightly.
 */
export function scriptedSource(
  stored: Buffer,
  script: ((
    asked: Asked,
    signal: AbortSignal,
  ) => AsyncIterable<Uint8Array> | Promise<AsyncIterable<Uint8Array>>)[] = [],
): Source & { asked: Asked[]; distrusted: number } {
  const asked: Asked[] = [];
  const source = {
    name: 'script',
    asked,
    distrusted: 0,
    async read(offset: number, length: number, signal: AbortSignal) {
      asked.push({ offset, length });
      const step = script.shift();
      return step === undefined ? pieces(stored.subarray(offset, offset + length)) : step({ offset, length }, signal);
    },
    distrust() {
      source.distrusted++;
    },
  };
  return source;
}

/** Streams bytes in pieces of 10,000. */
export async function* pieces(bytes: Uint8Array): AsyncIterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 10_000) yield bytes.slice(at, at + 10_000);
}

export function unavailable(): never {
  throw new NymphError('source', 'the script says 503', { retryable: true });
}

/** What a fetcher needs besides a blob and its source; `changes` counts what it tells the cache. */
export function fetchContext(pool: ThreadPool, policy: Partial<FetchPolicy> = {}): FetchContext & { changes: number } {
  const made = {
    policy: { ...DEFAULT_POLICY, pause: 1, maxPause: 5, deadline: 5_000, streamDelay: 0, ...policy },
    pool,
    gates: { demand: createGate(8), prefetch: createGate(2) },
    statistics: createFetchStatistics(),
    race: createRace(),
    log: () => {},
    changes: 0,
    awaited: () => {},
    arrived: () => {},
    refused: () => {},
    changed: () => {
      made.changes++;
    },
  };
  return made;
}
