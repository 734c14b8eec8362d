/** A blob that images share: their tables meet in one ledger, which can grow while frames are on their way. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { isReady } from '../../src/cache/ready-map.ts';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import type { ChunkTable } from '../../src/image/image.ts';
import type { Source } from '../../src/sources/source.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob, scriptedSource, type TestBlob } from '../blob.ts';

const pool = createThreadPool(2);
after(() => pool.close());
const never = new AbortController().signal;
const CHUNK = 4096;

/** One frame of two chunks of {@link CHUNK} bytes, of which the table has the first `count`. */
function batch(): { blob: TestBlob; tables: (count: number, second?: Uint8Array) => ChunkTable } {
  const blob = makeBlob([2 * CHUNK]);
  const digestAt = (offset: number) => hash('sha256', blob.flat.subarray(offset, offset + CHUNK), 'buffer');
  const tables = (count: number, second: Uint8Array = digestAt(CHUNK)): ChunkTable => ({
    count,
    offset: Float64Array.of(0, CHUNK).subarray(0, count),
    size: Uint32Array.of(CHUNK, CHUNK).subarray(0, count),
    digest: Buffer.concat([digestAt(0), second].slice(0, count)),
    frame: Uint32Array.of(0, 0).subarray(0, count),
    frameOffset: Uint32Array.of(0, CHUNK).subarray(0, count),
  });
  return { blob, tables };
}

function setTables(blob: TestBlob, chunks: ChunkTable): void {
  (blob.cached as { chunks: ChunkTable }).chunks = chunks;
}

test('a chunk that came into the tables while its frame was on its way is fetched, not taken for here', async () => {
  const { blob, tables } = batch();
  setTables(blob, tables(1));
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  async function* slow(bytes: Uint8Array): AsyncIterable<Uint8Array> {
    yield bytes.slice(0, 10);
    await gate;
    yield bytes.slice(10);
  }
  const source = scriptedSource(blob.stored, [
    ({ offset, length }) => slow(blob.stored.subarray(offset, offset + length)),
  ]);
  const fetcher = createFetcher(blob.cached, source, fetchContext(pool));
  const first = fetcher.need(0, CHUNK, never);
  await sleep(10);
  setTables(blob, tables(2));
  const second = fetcher.need(CHUNK, CHUNK, never);
  open();
  await Promise.all([first, second]);
  assert.equal(isReady(blob.cached.ready, CHUNK, CHUNK), true);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await fetcher.close();
  blob.close();
});

test('a wrong digest in the tables of one image does not keep a chunk in the same frame from another', async () => {
  const { blob, tables } = batch();
  setTables(blob, tables(2, randomBytes(32)));
  const fetcher = createFetcher(blob.cached, scriptedSource(blob.stored), fetchContext(pool, { attempts: 2 }));
  assert.deepEqual(await fetcher.need(0, CHUNK, never), []);
  assert.equal(isReady(blob.cached.ready, 0, CHUNK), true);
  assert.deepEqual(readFileSync(blob.cached.dataPath).subarray(0, CHUNK), blob.flat.subarray(0, CHUNK));
  await assert.rejects(fetcher.need(CHUNK, CHUNK, never), { code: 'corrupt' });
  assert.equal(isReady(blob.cached.ready, CHUNK, CHUNK), false);
  await fetcher.close();
  blob.close();
});

test('a source that does not answer holds up its own readers, not those of others', async () => {
  const shared = fetchContext(pool, { amplify: 0, gap: 0, deadline: 3_000 });
  const dead = makeBlob(Array.from({ length: 40 }, () => CHUNK));
  const good = makeBlob([CHUNK]);
  const silent: Source = {
    name: 'silent',
    read: (_offset, _length, signal) => sleep<AsyncIterable<Uint8Array>>(60_000, undefined, { signal }),
  };
  const stuck = createFetcher(dead.cached, silent, shared);
  const fetcher = createFetcher(good.cached, scriptedSource(good.stored), shared);
  let ended = 0;
  const faults = Array.from({ length: 40 }, async (_, i) => {
    await assert.rejects(stuck.need(i * CHUNK, 1, never), { code: 'timeout' });
    ended++;
  });
  await fetcher.need(0, CHUNK, never);
  assert.equal(ended, 0, 'those still wait');
  await Promise.all(faults);
  await stuck.close();
  await fetcher.close();
  dead.close();
  good.close();
});
