import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, readlinkSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import Database from 'better-sqlite3';
import type { Cache, CachedBlob, StoredImage } from '../../src/cache/cache.ts';
import { cacheError } from '../../src/cache/health.ts';
import { openCache } from '../../src/cache/open.ts';
import { clearReady, countReady, isClosed, isReady, setReady } from '../../src/cache/ready-map.ts';
import { durableDisk } from '../fault/cache-disk.ts';
import {
  assertNothingWrong,
  contradict,
  hexId,
  makeSample,
  ociDigest,
  partOf,
  readyChunks,
  recordLog,
  store,
  storedImage,
  temporaryDirectory,
  until,
} from './cache-kit.ts';

test('what was stored is here after close and open, with the same inode number', async (t) => {
  const root = temporaryDirectory(t);
  const sample = makeSample('plain', 30);
  let cache = await openCache(root);
  const first = await cache.open(sample.blob);
  assert.equal(first.size, sample.blob.size);
  assert.equal(statSync(first.dataPath).size, sample.blob.size);
  assert.deepEqual(readyChunks(first), []);
  for (const chunk of [0, 3, 7, 29]) store(cache, first, sample, chunk);
  await cache.close();

  cache = await openCache(root);
  const again = await cache.reopen(first.key);
  assert.ok(again);
  assert.equal(again.ino, first.ino);
  assert.deepEqual(readyChunks(again), [0, 3, 7, 29]);
  assertNothingWrong(again, sample.content, 'after close');
  await cache.release(again);
  await cache.close();
});

test('entries are shared, and closed by the last release', async (t) => {
  const cache = await openCache(temporaryDirectory(t));
  const sample = makeSample('shared', 8);
  const [a, b] = await Promise.all([cache.open(sample.blob), cache.open(sample.blob)]);
  assert.equal(a, b);
  await cache.release(a);
  assert.equal(isClosed(b.ready), false);
  assert.equal(cache.usage().openBlobs, 1);
  await cache.release(b);
  assert.equal(isClosed(b.ready), true);
  assert.equal(cache.usage().openBlobs, 0);
  await assert.rejects(cache.release(b), { code: 'internal' });
  // A word about an entry that is closed is no harm.
  cache.changed(b);
  await cache.close();
});

test('a second image adds its chunks to the ledger, also on disk', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const sample = makeSample('two images', 40);
  const a = await cache.open(partOf(sample.blob, (chunk) => chunk % 2 === 0));
  const before = a.chunks;
  assert.equal(before.count, 20);
  const b = await cache.open(partOf(sample.blob, (chunk) => chunk % 3 !== 0));
  assert.equal(a, b);
  assert.notEqual(a.chunks, before);
  assert.equal(before.count, 20);
  assert.equal(
    a.chunks.count,
    Array.from({ length: 40 }, (_, i) => i).filter((i) => i % 2 === 0 || i % 3 !== 0).length,
  );
  await cache.close();
  cache = await openCache(root);
  const again = await cache.reopen(a.key);
  assert.equal(again?.chunks.count, a.chunks.count);
  assert.deepEqual(again?.chunks.digest, a.chunks.digest);
  await cache.close();
});

test('images that contradict each other have entries of their own, and find them again', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const sample = makeSample('contradiction', 10);
  const views = [sample.blob, contradict(sample.blob, 4), contradict(sample.blob, 5)];
  const entries: CachedBlob[] = [];
  for (const view of views) entries.push(await cache.open(view));
  assert.deepEqual(
    entries.map((entry) => entry.key),
    [sample.blob.id, `${sample.blob.id}~2`, `${sample.blob.id}~3`],
  );
  assert.equal(new Set(entries.map((entry) => entry.ino)).size, 3);
  store(cache, entries[0], sample, 4);
  assert.deepEqual(readyChunks(entries[1]), []);
  await cache.close();
  cache = await openCache(root);
  const again = await Promise.all([...views].reverse().map((view) => cache.open(view)));
  assert.deepEqual(
    again.map((entry) => entry.ino),
    entries.map((entry) => entry.ino).reverse(),
  );
  // The first may go; the others keep their names.
  await cache.release(again[2]);
  assert.deepEqual((await cache.prune(0)).blobs, [sample.blob.id]);
  assert.equal((await cache.open(views[1])).key, `${sample.blob.id}~2`);
  await cache.close();
});

test('contradictions end somewhere', async (t) => {
  const cache = await openCache(temporaryDirectory(t));
  const { blob } = makeSample('many', 70, 10);
  for (let i = 0; i < 64; i++) await cache.release(await cache.open(contradict(blob, i)));
  await assert.rejects(cache.open(contradict(blob, 64)), { code: 'cache' });
  await cache.release(await cache.open(contradict(blob, 63)));
  assert.equal(cache.usage().openBlobs, 0);
  await cache.close();
});

test('names that are no names never become paths', async (t) => {
  const root = temporaryDirectory(t);
  const cache = await openCache(root);
  const { blob } = makeSample('names', 3);
  for (const id of ['../../etc/passwd', '', blob.id.toUpperCase(), `${blob.id}~2`, `${blob.id}/x`]) {
    await assert.rejects(cache.open({ ...blob, id }), { code: 'corrupt' });
    assert.equal(await cache.reopen(id.length === 66 ? `${id}0` : id), undefined);
  }
  await assert.rejects(cache.open({ ...blob, digest: 'sha256:../x' }), { code: 'corrupt' });
  for (const size of [-1, 0.5, Number.NaN, 2 ** 53])
    await assert.rejects(cache.open({ ...blob, size }), { code: 'corrupt' });
  assert.throws(() => cache.bootstrapPath('sha256:../../x'), { code: 'usage' });
  assert.deepEqual(readdirSync(join(root, 'blobs')), []);
  await cache.close();
});

test('all files are private', async (t) => {
  const root = join(temporaryDirectory(t), 'deep', 'root');
  const cache = await openCache(root);
  const sample = makeSample('modes', 3);
  const cached = await cache.open(sample.blob);
  await cache.putImage(storedImage('modes', [cached]), Buffer.from('bootstrap'));
  for (const entry of readdirSync(root, { recursive: true, withFileTypes: true })) {
    const mode = statSync(join(entry.parentPath, entry.name)).mode & 0o777;
    assert.equal(mode, entry.isDirectory() ? 0o700 : 0o600, entry.name);
  }
  assert.equal(statSync(root).mode & 0o777, 0o700);
  await cache.close();
});

test('images: kept, found, changed, repaired, and removed only when not mounted', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const cached = await cache.open(makeSample('image', 3).blob);
  const image = storedImage('app', [cached]);
  const bootstrap = Buffer.alloc(3_000_000, 'bootstrap');
  const path = await cache.putImage(image, bootstrap);
  assert.equal(path, cache.bootstrapPath(image.digest));
  assert.ok(readFileSync(path).equals(bootstrap));
  const { ino } = statSync(path);
  const renamed = { ...image, reference: 'registry.example/other:tag' };
  assert.equal(await cache.putImage(renamed, bootstrap), path);
  assert.equal(statSync(path).ino, ino, 'an image that is here is not written again');
  assert.deepEqual(cache.image(image.digest), renamed);
  // One byte of the bootstrap rots: the next put repairs it.
  bootstrap.copy(bootstrap);
  const rotten = Buffer.from(bootstrap);
  rotten[2_999_999] ^= 1;
  writeFileSync(path, rotten);
  await cache.putImage(renamed, bootstrap);
  assert.ok(readFileSync(path).equals(bootstrap));

  const mount = { directory: '/mnt/a', reference: 'x', digest: image.digest, kind: 'erofs' as const, since: 5 };
  cache.putMount(mount);
  await assert.rejects(cache.removeImage(image.digest), { code: 'busy' });
  await cache.close();
  cache = await openCache(root);
  assert.deepEqual(cache.images(), [renamed]);
  assert.deepEqual(cache.mounts(), [mount]);
  assert.equal(cache.usage().images, 1);
  cache.removeMount('/mnt/a');
  await cache.removeImage(image.digest);
  await cache.removeImage(image.digest);
  assert.deepEqual(cache.images(), []);
  assert.equal(existsSync(path), false);
  await cache.close();
});

test('a damaged bootstrap is replaced under those who use it: there is one at each moment', async (t) => {
  const root = temporaryDirectory(t);
  let path = '';
  let looks = 0;
  const disk = durableDisk((operation) => {
    if (path === '') return;
    looks++;
    assert.ok(existsSync(path), `before ${operation}`);
    assert.ok(existsSync(join(path, '..', 'image.json')), `before ${operation}`);
  });
  const cache = await openCache(root, { disk });
  const cached = await cache.open(makeSample('image', 3).blob);
  const image = storedImage('app', [cached]);
  const bootstrap = Buffer.alloc(100_000, 'bootstrap');
  path = await cache.putImage(image, bootstrap);
  for (const damaged of [Buffer.alloc(100_000), Buffer.alloc(0)]) {
    writeFileSync(path, damaged);
    await cache.putImage(image, bootstrap);
    assert.ok(readFileSync(path).equals(bootstrap));
  }
  assert.ok(looks > 8, `${looks} looks`);
  assert.deepEqual(readdirSync(join(root, 'tmp')), []);
  await cache.close();
});

test('prune: longest unused first, never what is open, then images without blobs', async (t) => {
  const cache = await openCache(temporaryDirectory(t));
  const samples = ['a', 'b', 'c', 'd'].map((name) => makeSample(name, 20));
  const cached: CachedBlob[] = [];
  for (const sample of samples) {
    const entry = await cache.open(sample.blob);
    for (let chunk = 0; chunk < 20; chunk++) store(cache, entry, sample, chunk);
    cached.push(entry);
  }
  const images = [storedImage('ab', cached.slice(0, 2)), storedImage('c', [cached[2]]), storedImage('b', [cached[1]])];
  for (const image of images) await cache.putImage(image, Buffer.alloc(5000));
  cache.putMount({ directory: '/mnt/b', reference: 'b', digest: images[2].digest, kind: 'erofs', since: 1 });
  for (const index of [1, 3, 0]) await cache.release(cached[index]); // c stays open
  assert.deepEqual((await cache.prune(Number.MAX_SAFE_INTEGER)).blobs, []);
  const { bytes } = cache.usage();
  const one = await cache.prune(bytes - 1);
  assert.deepEqual(one.blobs, [cached[3].key], 'b is mounted');
  assert.deepEqual(one.images, []);
  assert.equal(cache.usage().bytes, bytes - one.freed);
  const all = await cache.prune(0);
  assert.deepEqual(all.blobs, [cached[0].key]);
  assert.deepEqual(all.images, [], 'one blob of it is here, or it is mounted');
  cache.removeMount('/mnt/b');
  const rest = await cache.prune(0);
  assert.deepEqual(rest.blobs, [cached[1].key]);
  assert.deepEqual(rest.images.sort(), [images[0].digest, images[2].digest].sort());
  assert.deepEqual(readyChunks(cached[2]).length, 20);
  assert.equal(cache.usage().blobs, 1);
  await cache.close();
});

test('a peek tells what is here, and changes nothing: no last use, no sync, no entry', async (t) => {
  const root = temporaryDirectory(t);
  const samples = ['a', 'b', 'c'].map((name) => makeSample(name, 20));
  const operations: string[] = [];
  const disk = durableDisk((operation) => operations.push(operation));
  let cache = await openCache(root, { disk });
  const keys: string[] = [];
  for (const sample of samples) {
    const entry = await cache.open(sample.blob);
    for (let chunk = 0; chunk < 20; chunk += 2) store(cache, entry, sample, chunk);
    keys.push(entry.key);
    const { size, ready } = (await cache.peek(entry.key))!;
    const all = sample.blob.chunks.size.reduce((sum, bytes) => sum + bytes, 0);
    assert.equal(size, all);
    assert.ok(ready > 0 && ready < all, `${ready} of ${all}`);
    await cache.release(entry);
    assert.deepEqual(await cache.peek(entry.key), { size, ready }, 'open or not');
  }
  await cache.close();

  cache = await openCache(root, { disk });
  const before = operations.length;
  for (const index of [1, 0, 2, 0]) assert.ok(await cache.peek(keys[index]));
  assert.equal(await cache.peek(hexId('absent')), undefined);
  assert.equal(await cache.peek('../x'), undefined);
  const unchanged = (await cache.reopen(keys[2]))!;
  await cache.release(unchanged);
  assert.deepEqual(
    operations.slice(before).filter((operation) => operation !== 'open'),
    [],
    'neither a peek nor a release without a change writes or syncs',
  );
  const { bytes } = cache.usage();
  assert.deepEqual((await cache.prune(bytes - 1)).blobs, [keys[0]], 'the longest unused, though it was peeked at last');

  // What is damaged is told, and left for those who need it.
  writeFileSync(join(root, 'blobs', keys[1], 'chunks'), 'rubbish');
  assert.equal(await cache.peek(keys[1]), undefined);
  assert.equal(cache.usage().blobs, 2);
  assert.equal(await cache.reopen(keys[1]), undefined);
  assert.equal(cache.usage().blobs, 1);
  await cache.close();
});

test('a release syncs what changed, also what nobody told of', async (t) => {
  const root = temporaryDirectory(t);
  const sample = makeSample('told', 6);
  let syncs = 0;
  const disk = durableDisk((operation) => {
    if (operation === 'datasync') syncs++;
  });
  const cache = await openCache(root, { disk });
  const entry = await cache.open(sample.blob);
  store(cache, entry, sample, 0);
  await cache.release(entry);
  const change: ((again: CachedBlob) => void)[] = [
    (again) => store(cache, again, sample, 1),
    (again) => setReady(again.ready, again.chunks.offset[2], again.chunks.size[2]),
    // The same bits, but other data.
    (again) => {
      clearReady(again.ready, again.chunks.offset[0], again.chunks.size[0]);
      setReady(again.ready, again.chunks.offset[0], again.chunks.size[0]);
    },
  ];
  for (const [index, apply] of change.entries()) {
    const again = (await cache.reopen(entry.key))!;
    apply(again);
    const before = syncs;
    await cache.release(again);
    assert.ok(syncs >= before + 2, `change ${index}: data and bits are synced`);
  }
  const before = syncs;
  await cache.release((await cache.reopen(entry.key))!);
  assert.equal(syncs, before, 'nothing changed');
  await cache.close();
});

test('the quota is kept in the background', async (t) => {
  const { log, lines } = recordLog();
  const quota = 1_600_000;
  const root = temporaryDirectory(t);
  const cache = await openCache(root, { quota, log });
  const cached: CachedBlob[] = [];
  for (let i = 0; i < 6; i++) {
    const sample = makeSample(`quota ${i}`, 40, 20_000); // about 450 KB, beside the 700 KB that the store itself takes
    const entry = await cache.open(sample.blob);
    cached.push(entry);
    for (let chunk = 0; chunk < 40; chunk++) store(cache, entry, sample, chunk);
    if (i < 5) await cache.release(entry);
  }
  await until(() => cache.usage().bytes <= quota);
  assert.ok(cache.usage().blobs < 6);
  assert.ok(existsSync(cached[5].dataPath));
  assert.equal(existsSync(cached[0].dataPath), false);
  assert.ok(lines.some((line) => line.includes('quota')));
  await cache.close();
});

test('more than the quota in use by open entries is said once, and reads go on', async (t) => {
  const { log, lines } = recordLog();
  const cache = await openCache(temporaryDirectory(t), { quota: 700_000, log });
  const sample = makeSample('too large', 60, 40_000);
  const entry = await cache.open(sample.blob);
  for (let chunk = 0; chunk < 60; chunk++) {
    store(cache, entry, sample, chunk);
    if (chunk % 20 === 0) await new Promise((resolve) => setTimeout(resolve, 120));
  }
  await until(() => lines.some((line) => line.startsWith('warn')));
  assert.equal(lines.filter((line) => line.startsWith('warn')).length, 1);
  assert.equal(readyChunks(entry).length, 60);
  await cache.close();
});

test('usage counts what is on disk', async (t) => {
  const root = temporaryDirectory(t);
  const cache = await openCache(root);
  const sample = makeSample('usage', 50);
  const cached = await cache.open(sample.blob);
  await cache.putImage(storedImage('usage', [cached]), Buffer.alloc(100_000, 1));
  for (let chunk = 0; chunk < 25; chunk++) store(cache, cached, sample, chunk);
  await cache.release(cached);
  let bytes = 0;
  for (const file of readdirSync(root, { recursive: true, withFileTypes: true })) {
    if (file.isFile()) bytes += statSync(join(file.parentPath, file.name)).blocks * 512;
  }
  const { bytes: told, ...rest } = cache.usage();
  assert.ok(Math.abs(told - bytes) < 150_000, `${told} is told, ${bytes} is used`);
  assert.deepEqual(rest, {
    quota: undefined,
    blobs: 1,
    openBlobs: 0,
    images: 1,
    writable: true,
    evicted: { blobs: 0, images: 0, bytes: 0 },
  });
  await cache.close();
});

test('the inode numbers of entries that are gone are not used again', async (t) => {
  const root = temporaryDirectory(t);
  const seen = new Set<number>();
  const { blob } = makeSample('numbers', 2);
  for (let round = 0; round < 5; round++) {
    const cache = await openCache(root);
    const cached = await cache.open(blob);
    assert.ok(cached.ino >= 2 ** 20 && !seen.has(cached.ino));
    seen.add(cached.ino);
    await cache.release(cached);
    await cache.prune(0);
    await cache.close();
  }
});

test('500 rounds of open and release keep no descriptor', async (t) => {
  const root = temporaryDirectory(t);
  const cache = await openCache(root);
  const blobs = Array.from({ length: 5 }, (_, i) => makeSample(`descriptors ${i}`, 4, 100));
  // SQLite keeps one descriptor of its own for the next connection: it is not looked at.
  const descriptors = () => {
    const links = readdirSync('/proc/self/fd').map(linkOf);
    return links.filter((link) => link.startsWith(root) && !link.includes('catalogue.db')).sort();
  };
  const before = descriptors();
  for (let round = 0; round < 500; round++) {
    const sample = blobs[round % 5];
    const cached = await cache.open(round % 7 === 0 ? contradict(sample.blob, 1) : sample.blob);
    if (round % 7 !== 0) store(cache, cached, sample, round % 4);
    await cache.release(cached);
    if (round % 100 === 99) await cache.prune(0);
  }
  // What was removed goes in the background, with its directories open.
  await until(() => descriptors().join() === before.join(), 30_000);
  await cache.close();
});

test('an open entry has one file open, but for moments', async (t) => {
  const root = temporaryDirectory(t);
  const cache = await openCache(root);
  const sample = makeSample('one file', 4, 100);
  const opened = () =>
    readdirSync('/proc/self/fd')
      .map(linkOf)
      .filter((link) => link.startsWith(join(root, 'blobs')));
  for (const how of ['made', 'opened again']) {
    const cached = await cache.open(sample.blob);
    assert.deepEqual(opened(), [cached.dataPath], how);
    store(cache, cached, sample, how === 'made' ? 0 : 1);
    const before = statSync(join(cached.dataPath, '../ready')).mtimeMs;
    await until(() => statSync(join(cached.dataPath, '../ready')).mtimeMs !== before, 60_000);
    await until(() => opened().length === 1, 60_000);
    await cache.release(cached);
    assert.deepEqual(opened(), [], how);
  }
  await cache.close();
});

/** Where a descriptor of ours leads; the one that listed the directory is gone already. */
function linkOf(fd: string): string {
  try {
    return readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return '';
  }
}

test('opens, releases and evictions at the same time', async (t) => {
  const cache = await openCache(temporaryDirectory(t));
  const samples = Array.from({ length: 4 }, (_, i) => makeSample(`race ${i}`, 12, 6000));
  await Promise.all(
    Array.from({ length: 12 }, async (_, worker) => {
      for (let round = 0; round < 25; round++) {
        const sample = samples[(worker + round) % 4];
        const cached = await cache.open(sample.blob);
        const chunk = (worker * round) % 12;
        store(cache, cached, sample, chunk);
        if (round % 5 === 0) await cache.prune(0);
        assert.ok(isReady(cached.ready, cached.chunks.offset[chunk], cached.chunks.size[chunk]));
        assertNothingWrong(cached, sample.content, `worker ${worker}`);
        await cache.release(cached);
      }
    }),
  );
  assert.equal(cache.usage().openBlobs, 0);
  await cache.close();
});

test('closing while others open and store is orderly', async (t) => {
  const root = temporaryDirectory(t);
  const sample = makeSample('closing', 12);
  const cache = await openCache(root);
  const cached = await cache.open(sample.blob);
  store(cache, cached, sample, 1);
  const opening = cache.open(makeSample('late', 3).blob).then(
    () => 'opened',
    (error) => error.code,
  );
  const closing = cache.close();
  cache.changed(cached);
  assert.ok(['opened', 'cancelled'].includes(await opening));
  await closing;
  await cache.close();
  await assert.rejects(cache.open(sample.blob), { code: 'cancelled' });
  const again = await openCache(root);
  const entry = await again.open(sample.blob);
  assert.deepEqual(readyChunks(entry), [1]);
  await again.close();
});

test('a catalogue of a newer version is refused, and left alone', async (t) => {
  const root = temporaryDirectory(t);
  await (await openCache(root)).close();
  const database = new Database(join(root, 'catalogue.db'));
  database.pragma('user_version = 999');
  database.pragma(`application_id = ${0x4e590000 + 999}`);
  database.close();
  await assert.rejects(openCache(root), { code: 'cache', message: /version 999/ });
  assert.deepEqual(
    readdirSync(root).filter((name) => name.includes('damaged')),
    [],
  );
});

test('the write-ahead log does not grow without end', async (t) => {
  const root = temporaryDirectory(t);
  const cache = await openCache(root);
  const image = storedImage('wal', []);
  const reference = 'x'.repeat(20_000);
  for (let i = 0; i < 1500; i++) {
    cache.putMount({ directory: `/mnt/${i % 50}`, reference, digest: image.digest, kind: 'erofs', since: i });
    if (i % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // 1,500 writes of 20 KB are 40 MB of log if nothing writes it back.
  await until(() => statSync(join(root, 'catalogue.db-wal')).size < 25_000_000);
  assert.equal(cache.mounts().length, 50);
  await cache.close();
  assert.equal(existsSync(join(root, 'catalogue.db-wal')), false);
});

test('an empty blob and a blob without chunks', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const { blob } = makeSample('nothing', 0);
  const hole = {
    ...partOf(makeSample('hole', 1).blob, () => false),
    id: hexId('hole'),
    size: 8192,
    digest: ociDigest('h'),
  };
  for (const one of [blob, hole]) {
    const cached = await cache.open(one);
    assert.equal(countReady(cached.ready), 0);
    await cache.release(cached);
  }
  await cache.close();
  cache = await openCache(root);
  for (const one of [blob, hole]) assert.equal((await cache.reopen(one.id))?.size, one.size);
  await cache.close();
});

/** A closed entry that is filled, and an image of it. */
async function cachedImage(cache: Cache, name: string): Promise<StoredImage> {
  const sample = makeSample(name, 40, 20_000);
  const entry = await cache.open(sample.blob);
  for (let chunk = 0; chunk < 40; chunk++) store(cache, entry, sample, chunk);
  const image = storedImage(name, [entry]);
  await cache.putImage(image, Buffer.alloc(5000, 1));
  await cache.release(entry);
  return image;
}

test('a pinned image outlives prune and a restart, and a rebuilt catalogue knows of it', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const [kept, other] = [await cachedImage(cache, 'kept'), await cachedImage(cache, 'other')];
  await cache.pin(kept.digest, true);
  // Who opens the image again does not know of the pin.
  await cache.putImage(kept, Buffer.alloc(5000, 1));
  assert.deepEqual((await cache.prune(0)).images, [other.digest]);
  await cache.close();
  for (const name of ['catalogue.db', 'catalogue.db-wal', 'catalogue.db-shm'])
    rmSync(join(root, name), { force: true });
  cache = await openCache(root);
  assert.deepEqual(await cache.prune(0), { freed: 0, blobs: [], images: [] });
  await cache.pin(kept.digest, false);
  await cache.pin(kept.digest, true);
  assert.deepEqual((await cache.prune(0, true)).images, [kept.digest]);
  await assert.rejects(cache.pin(kept.digest, true), { code: 'not-found' });
  // It was removed with its pin.
  await cachedImage(cache, 'kept');
  assert.deepEqual((await cache.prune(0)).images, [kept.digest]);
  await cache.close();
});

test('what others count on is not pruned; the quota takes its blobs last, never the image, nor what is pinned', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const images: StoredImage[] = [];
  for (const name of ['pinned', 'needed', 'idle']) images.push(await cachedImage(cache, name));
  const [pinned, needed, idle] = images;
  await cache.pin(pinned.digest, true);
  await cache.close();

  cache = await openCache(root, { needed: () => new Set([needed.digest]) });
  assert.deepEqual(
    (await cache.prune(0)).blobs,
    idle.blobs.map(({ key }) => key),
  );
  const { bytes } = cache.usage();
  await cache.close();

  cache = await openCache(root, { quota: bytes - 250_000, lowWater: 0.01, needed: () => new Set([needed.digest]) });
  const again = await cachedImage(cache, 'idle');
  const here = (image: StoredImage) => existsSync(join(root, 'blobs', image.blobs[0].key));
  await until(() => !here(needed) && !here(again));
  assert.ok(here(pinned));
  await until(() => cache.images().length === 2);
  const digests = cache.images().map(({ digest }) => digest);
  await cache.close();
  assert.deepEqual(digests.sort(), [pinned.digest, needed.digest].sort());
});

test('eviction for the quota goes down to the low-water mark', async (t) => {
  const quota = 2_400_000;
  const cache = await openCache(temporaryDirectory(t), { quota, lowWater: 0.5 });
  for (let i = 0; i < 8; i++) {
    await cachedImage(cache, `low ${i}`);
    if (cache.usage().bytes > quota) await until(() => cache.usage().bytes <= quota / 2);
  }
  assert.ok(cache.usage().blobs < 8);
  await cache.close();
});

test('an error says what to do: space, open files, or a look at the disk', () => {
  const hint = (code: string) => cacheError('it failed', Object.assign(new Error(code), { code })).hint;
  assert.match(hint('ENOSPC')!, /Free space/);
  for (const code of ['EMFILE', 'ENFILE']) assert.match(hint(code)!, /LimitNOFILE/);
  assert.match(hint('EIO')!, /health of the file system/);
});

test('a daemon that starts again does not evict what is mounted while it takes up its mounts', async (t) => {
  const root = temporaryDirectory(t);
  let cache = await openCache(root);
  const [mounted, other] = [await cachedImage(cache, 'mounted'), await cachedImage(cache, 'other')];
  cache.putMount({ directory: '/m', reference: 'm', digest: mounted.digest, kind: 'fuse', since: 1 });
  await cache.close();

  cache = await openCache(root, { quota: 1, lowWater: 0.5 });
  const here = ({ blobs }: StoredImage) => existsSync(join(root, 'blobs', blobs[0].key));
  // The first mount that is taken up has the quota looked at.
  await cachedImage(cache, 'first');
  await until(() => !here(other));
  assert.ok(here(mounted));
  assert.deepEqual((await cache.prune(0, true)).blobs.includes(mounted.blobs[0].key), false);
  cache.removeMount('/m');
  assert.ok((await cache.prune(0, true)).blobs.includes(mounted.blobs[0].key));
  await cache.close();
});
