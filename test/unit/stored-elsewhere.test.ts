/** Stored bytes that another entry of the cache has are not fetched again. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { readFileSync, truncateSync, writeSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import type { Cache, CachedBlob } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import { clearReady, setReady } from '../../src/cache/ready-map.ts';
import { NymphError } from '../../src/errors.ts';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import { createRace } from '../../src/fetch/race.ts';
import { blobOf } from '../../src/formats/files/blob.ts';
import { objectOf } from '../../src/image/files.ts';
import type { Blob } from '../../src/image/image.ts';
import { CACHE, storedElsewhere } from '../../src/mount/stored-elsewhere.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob, pieces, type TestBlob } from '../blob.ts';
import { type MemorySwarm, memorySwarm } from '../swarm.ts';
import { temporaryDirectory } from './cache-kit.ts';

const signal = new AbortController().signal;

/** The blob of an image whose stored object is also a file of a model, of more than 4 MiB. */
async function stage(t: TestContext) {
  const cache = await openCache(temporaryDirectory(t), {});
  t.after(() => cache.close());
  const made = makeBlob(Array.from({ length: 40 }, () => 300_000));
  t.after(() => made.close());
  const { id, digest, size, digestAlgorithm, chunks, frames } = made.cached;
  const image: Blob = { id, digest, size, storedSize: made.stored.length, digestAlgorithm, chunks, frames };
  const file = blobOf(objectOf({ size: made.stored.length, whole: { algorithm: 'sha256', hex: id }, place: 'a' }));
  return { cache, image, file, stored: made.stored, made };
}

/** Another place that has the object. */
function registry(stored: Buffer) {
  const asked: number[] = [];
  return {
    asked,
    name: 'registry',
    async read(offset: number, length: number) {
      asked.push(length);
      return pieces(stored.subarray(offset, offset + length));
    },
    distrust: () => {},
  };
}

async function fill(cache: Cache, cached: CachedBlob, bytes: Uint8Array): Promise<void> {
  writeSync(cached.fd, bytes, 0, bytes.length, 0);
  setReady(cached.ready, 0, bytes.length);
  cache.changed(cached);
}

async function read(elsewhere: ReturnType<typeof storedElsewhere>, offset: number, length: number): Promise<Buffer> {
  const found: Uint8Array[] = [];
  for await (const piece of await elsewhere.source.read(offset, length, signal)) found.push(piece);
  return Buffer.concat(found);
}

const log = () => {};

test('a checked file of a model is where the blob of an image is read', async (t) => {
  const { cache, image, file, stored } = await stage(t);
  const kept = await cache.open(file);
  await fill(cache, kept, stored);
  await cache.settle(kept, 'right');
  await cache.release(kept);
  const from = registry(stored);
  const elsewhere = storedElsewhere(await cache.open(image), from, cache, log);
  assert.ok((await read(elsewhere, 0, stored.length)).equals(stored));
  assert.ok((await read(elsewhere, 1_234_567, 2_345_678)).equals(stored.subarray(1_234_567, 1_234_567 + 2_345_678)));
  assert.deepEqual(from.asked, []);
  assert.equal(elsewhere.source.name, CACHE);
  assert.equal(await elsewhere.source.location?.(signal, 0), undefined);
  // It is held until it is given back, whatever the quota says.
  assert.deepEqual((await cache.prune(0, true)).blobs, []);
  await elsewhere.close();
  assert.deepEqual((await cache.prune(0, true)).blobs, [kept.key]);
  assert.ok((await read(elsewhere, 0, 100)).equals(stored.subarray(0, 100)));
  assert.deepEqual(from.asked, [100]);
});

test('one that is not checked, or not complete, is not', async (t) => {
  const { cache, image, file, stored } = await stage(t);
  const kept = await cache.open(file);
  await fill(cache, kept, stored);
  const from = registry(stored);
  const elsewhere = storedElsewhere(await cache.open(image), from, cache, log);
  await read(elsewhere, 0, 100);
  await cache.settle(kept, 'right');
  await read(elsewhere, 0, 200);
  clearReady(kept.ready, 0, 4096);
  await read(elsewhere, 0, 300);
  await elsewhere.close();
  assert.deepEqual(from.asked, [100, 300]);
});

test('what it has on the disk is wrong, or gone: it is fetched', async (t) => {
  const { cache, image, file, stored } = await stage(t);
  const kept = await cache.open(file);
  await fill(cache, kept, stored);
  await cache.settle(kept, 'right');
  for (const how of ['wrong', 'gone']) {
    const from = registry(stored);
    const elsewhere = storedElsewhere(await cache.open(image), from, cache, log);
    if (how === 'wrong') elsewhere.source.distrust?.(await elsewhere.source.read(0, 100, signal));
    else {
      truncateSync(kept.dataPath, 0);
      await assert.rejects(read(elsewhere, 0, 100), { code: 'cache', retryable: true });
    }
    assert.ok((await read(elsewhere, 0, 100)).equals(stored.subarray(0, 100)));
    assert.deepEqual(from.asked, [100], how);
    await elsewhere.close();
  }
});

test('no swarm is asked to bring what is here', async (t) => {
  const { cache, image, file, stored, made } = await stage(t);
  const kept = await cache.open(file);
  await fill(cache, kept, stored);
  await cache.settle(kept, 'right');
  const pool = createThreadPool(1);
  t.after(() => pool.close());
  const swarm = memorySwarm(stored);
  // As Dragonfly does, which must be told where others get the object.
  const byLocation: MemorySwarm['open'] = async (object, until, keep) => {
    if ((await object.location(until, 0)) === undefined) throw new NymphError('unsupported', 'it is in no place');
    return swarm.open(object, until, keep);
  };
  const asking = Object.create(swarm, { open: { value: byLocation } }) as MemorySwarm;
  const from = {
    ...registry(stored),
    location: async () => ({ url: new URL('http://registry/'), headers: {}, certificates: [] }),
  };
  const cached = await cache.open(image);
  const elsewhere = storedElsewhere(cached, from, cache, log);
  const fetcher = createFetcher(cached, elsewhere.source, { ...fetchContext(pool), race: createRace(asking) });
  await fetcher.fill(0, cached.size, signal);
  await fetcher.close();
  await elsewhere.close();
  assert.ok(readFileSync(cached.dataPath).equals(made.flat));
  assert.deepEqual([from.asked, swarm.opened], [[], 0]);
});

/** The blob of an image that was built without compression. */
function uncompressed({ cached, flat }: TestBlob): { image: Blob; stored: Buffer } {
  const { size, chunks } = cached;
  const sizes = chunks.size;
  const offset = Float64Array.from(sizes, (_, i) => sizes.subarray(0, i).reduce((sum, length) => sum + length, 0));
  const frames = { count: chunks.count, offset, size: sizes, decodedSize: sizes, codec: new Uint8Array(chunks.count) };
  const parts = Array.from(chunks.offset, (at, i) => flat.subarray(at, at + sizes[i]));
  const stored = Buffer.concat([...parts, randomBytes(5000)]);
  const id = hash('sha256', stored);
  const digest = `sha256:${id}` as const;
  return { image: { id, digest, size, storedSize: stored.length, digestAlgorithm: 'sha256', chunks, frames }, stored };
}

test('a blob without compression is where a small file is read, whose digest vouches for it; a large one is not', async (t) => {
  const { cache } = await stage(t);
  for (const sizes of [
    [300_000, 5000, 8192, 70_000],
    [3_000_000, 2_000_000],
  ]) {
    const made = makeBlob(sizes);
    t.after(() => made.close());
    const { image, stored } = uncompressed(made);
    const kept = await cache.open(image);
    await fill(cache, kept, made.flat);
    const small = stored.length < 4 << 20;
    const whole = { algorithm: 'sha256', hex: image.id } as const;
    const file = await cache.open(blobOf(objectOf({ size: stored.length, whole, place: 'a' })));
    assert.notEqual(file.key, kept.key);
    const from = registry(stored);
    const elsewhere = storedElsewhere(file, from, cache, log);
    assert.ok((await read(elsewhere, 1000, 302_000)).equals(stored.subarray(1000, 303_000)));
    assert.ok((await read(elsewhere, 0, stored.length)).equals(stored));
    // Behind the chunks is what no image has.
    assert.deepEqual(from.asked, small ? [stored.length] : [302_000, stored.length]);
    await elsewhere.close();
  }
});
