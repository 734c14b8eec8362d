import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CachedBlob } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import type { NymphError } from '../../src/errors.ts';
import {
  assertNothingWrong,
  makeSample,
  readyChunks,
  recordLog,
  store,
  storedImage,
  until,
} from '../unit/cache-kit.ts';

/** A file system of 4 MiB, or undefined (and the test is skipped) where we may not mount. */
function smallFileSystem(t: TestContext): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-small-'));
  const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4m,mode=0700', 'nymph-test', directory]);
  t.after(() => {
    if (mounted.status === 0) spawnSync('umount', ['-l', directory]);
    rmSync(directory, { recursive: true, force: true });
  });
  if (mounted.status !== 0) {
    t.skip(`cannot mount a tmpfs: ${mounted.stderr ?? mounted.error}`);
    return undefined;
  }
  return directory;
}

function fill(path: string): void {
  const fd = openSync(path, 'w');
  try {
    for (;;) writeSync(fd, Buffer.alloc(4096));
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, 'ENOSPC');
  } finally {
    closeSync(fd);
  }
}

test('a disk that is really full: reads go on, new entries are refused, and space brings it back', async (t) => {
  const directory = smallFileSystem(t);
  if (!directory) return;
  const { log, lines } = recordLog();
  const root = join(directory, 'root');
  let cache = await openCache(root, { log });
  const sample = makeSample('full', 40, 20_000);
  const cached = await cache.open(sample.blob);
  for (let chunk = 0; chunk < 20; chunk++) store(cache, cached, sample, chunk);
  fill(join(directory, 'filler'));
  const stores = () => {
    for (let chunk = 20; chunk < 40; chunk++) store(cache, cached, sample, chunk);
  };
  assert.throws(stores, { code: 'ENOSPC' }, 'the caller writes the data, and sees it');
  cache.changed(cached);
  for (const name of ['a', 'b', 'c']) {
    await assert.rejects(cache.open(makeSample(name, 5).blob), (error: NymphError) => {
      return error.code === 'cache' && error.retryable && /prune/.test(error.hint ?? '');
    });
  }
  await assert.rejects(cache.putImage(storedImage('x', [cached]), Buffer.alloc(50_000)), { code: 'cache' });
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(cache.usage().writable, false);
  assert.ok(readyChunks(cached).length >= 20);
  assertNothingWrong(cached, sample.content, 'full');
  assert.equal(lines.filter((line) => line.startsWith('error')).length, 1, lines.join('\n'));

  rmSync(join(directory, 'filler'));
  await until(() => cache.usage().writable, 15_000);
  assert.equal(lines.filter((line) => line.includes('can be written again')).length, 1);
  const other: CachedBlob = await cache.open(makeSample('after', 5).blob);
  await cache.release(other);
  stores();
  await cache.close();

  cache = await openCache(root);
  const again = await cache.reopen(cached.key);
  assert.equal(readyChunks(again!).length, 40);
  assertNothingWrong(again!, sample.content, 'after');
  await cache.close();
});

test('a store on a full disk can be closed, opened and pruned', async (t) => {
  const directory = smallFileSystem(t);
  if (!directory) return;
  const root = join(directory, 'root');
  let cache = await openCache(root);
  const sample = makeSample('full', 60, 20_000);
  let cached = await cache.open(sample.blob);
  for (let chunk = 0; chunk < 60; chunk++) store(cache, cached, sample, chunk);
  await cache.close();
  fill(join(directory, 'filler'));
  cache = await openCache(root);
  cached = await cache.open(sample.blob);
  assert.equal(readyChunks(cached).length, 60);
  await cache.release(cached);
  assert.deepEqual((await cache.prune(0)).blobs, [cached.key]);
  cached = await cache.open(sample.blob);
  for (let chunk = 0; chunk < 10; chunk++) store(cache, cached, sample, chunk);
  await cache.close();
});
