import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Cache, CachedBlob } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import { clearReady } from '../../src/cache/ready-map.ts';
import { NymphError } from '../../src/errors.ts';
import {
  assertNothingWrong,
  makeSample,
  partOf,
  readyChunks,
  recordLog,
  type Sample,
  store,
  storedImage,
  temporaryDirectory,
  until,
} from '../unit/cache-kit.ts';
import { type FaultyDisk, faultyDisk } from './cache-disk.ts';

const samples = [makeSample('first', 12, 9000), makeSample('second', 8, 9000)];

/** The call may fail, but only as the contract says. */
async function allowed<Result>(what: string, call: () => Promise<Result>): Promise<Result | undefined> {
  try {
    return await call();
  } catch (error) {
    assert.ok(error instanceof NymphError && error.code === 'cache', `${what}: ${error}`);
    assert.ok(error.hint, what);
    return undefined;
  }
}

function storeChunks(cache: Cache, cached: CachedBlob, sample: Sample, every: number): void {
  for (let chunk = 0; chunk < cached.chunks.count; chunk += every) store(cache, cached, sample, chunk);
}

/** All that the cache does in a life: new entries, more chunks, bits, wrong bytes, images, eviction, closing. */
async function live(root: string, disk: FaultyDisk): Promise<void> {
  const cache = await allowed('openCache', () => openCache(root, { disk, bootId: 'first boot' }));
  if (!cache) return;
  const part = partOf(samples[0].blob, (chunk) => chunk < 6);
  const a = await allowed('open', () => cache.open(part));
  if (a) {
    storeChunks(cache, a, samples[0], 2);
    await allowed('grow', () => cache.open(samples[0].blob));
    storeChunks(cache, a, samples[0], 3);
    clearReady(a.ready, 0, 1);
    cache.changed(a);
    await new Promise((resolve) => setTimeout(resolve, 5));
    store(cache, a, samples[0], 0);
  }
  const b = await allowed('open another', () => cache.open(samples[1].blob));
  if (b) {
    storeChunks(cache, b, samples[1], 1);
    await allowed('image', () => cache.putImage(storedImage('image', [b]), Buffer.alloc(9000, 7)));
    await cache.release(b);
  }
  await allowed('prune', () => cache.prune(0));
  const again = await allowed('open again', () => cache.open(samples[1].blob));
  if (again) storeChunks(cache, again, samples[1], 2);
  if (a) assertNothingWrong(a, samples[0].content, 'in memory');
  await cache.close();
}

/** Whatever happened: the directory opens, nothing in it is wrong, and it works. */
async function check(root: string, bootId: string, context: string): Promise<void> {
  const cache = await openCache(root, { bootId });
  for (const sample of samples) {
    const cached = await cache.open(sample.blob);
    assertNothingWrong(cached, sample.content, context);
    for (let chunk = 0; chunk < cached.chunks.count; chunk++) store(cache, cached, sample, chunk);
    await cache.release(cached);
    const reopened = await cache.reopen(cached.key);
    assert.equal(readyChunks(reopened!).length, sample.blob.chunks.count, context);
  }
  for (const image of cache.images()) await cache.putImage(image, Buffer.alloc(9000, 7));
  await cache.close();
}

for (const [name, code, forever] of [
  ['each write fails once', 'ENOSPC', false],
  ['each operation is the last before a kill', 'EIO', true],
] as const) {
  test(`${name}: the store stays right`, async (t) => {
    const directory = temporaryDirectory(t);
    let step = 1;
    for (; ; step++) {
      const root = join(directory, String(step));
      const disk = faultyDisk(step, code, forever);
      await live(root, disk);
      const copy = join(directory, `${step} after a restart of the machine`);
      cpSync(root, copy, { recursive: true });
      await check(root, 'first boot', `step ${step}, same boot`);
      await check(copy, 'second boot', `step ${step}, other boot`);
      if (!disk.failed) break;
    }
    assert.ok(step > 40, `only ${step} steps`);
    t.diagnostic(`${step} steps`);
  });
}

test('a disk that fails for ever stops the cache, not the caller; it is said once', async (t) => {
  const { log, lines } = recordLog();
  const root = temporaryDirectory(t);
  // One entry can be made with nine operations.
  const disk = faultyDisk(10, 'ENOSPC', true);
  const cache = await openCache(root, { disk, log });
  const cached = await cache.open(samples[0].blob);
  for (let round = 0; round < 5; round++) {
    storeChunks(cache, cached, samples[0], 1);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  await until(() => !cache.usage().writable);
  await assert.rejects(cache.open(samples[1].blob), (error: NymphError) => {
    return error.code === 'cache' && error.retryable && /prune/.test(error.hint ?? '');
  });
  assert.equal(readyChunks(cached).length, 12, 'reads go on');
  assertNothingWrong(cached, samples[0].content, 'full disk');
  assert.equal(lines.filter((line) => line.startsWith('error')).length, 1, lines.join('\n'));
  await cache.close();
});

test('a sync that fails takes the unsynced bits back: the kernel may have dropped their data', async (t) => {
  const root = temporaryDirectory(t);
  const sample = samples[0];
  let cache = await openCache(root);
  let cached = await cache.open(sample.blob);
  store(cache, cached, sample, 1);
  await cache.close();
  let failing = false;
  const good = faultyDisk(Number.MAX_SAFE_INTEGER, 'EIO', false);
  const disk = {
    ...good,
    datasync: (file: Parameters<typeof good.datasync>[0]) =>
      failing && file.fd === cached.fd ? Promise.reject(new Error('EIO: injected')) : good.datasync(file),
  };
  cache = await openCache(root, { disk });
  cached = await cache.open(sample.blob);
  store(cache, cached, sample, 2);
  const { ready } = cached;
  failing = true;
  await cache.release(cached);
  assert.deepEqual(readyChunks({ ...cached, ready }), [1]);
  failing = false;
  const again = await cache.open(sample.blob);
  assert.deepEqual(readyChunks(again), [1]);
  await cache.close();
});
