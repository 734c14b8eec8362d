import assert from 'node:assert/strict';
import { cpSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { StoredImage } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import { setReady } from '../../src/cache/ready-map.ts';
import {
  assertNothingWrong,
  contradict,
  makeSample,
  partOf,
  readyChunks,
  recordLog,
  type Sample,
  store,
  storedImage,
  temporaryDirectory,
} from '../unit/cache-kit.ts';

interface Store {
  root: string;
  samples: Sample[];
  /** Inode numbers by key. */
  inos: Map<string, number>;
  image: StoredImage;
}

const random = (n: number) => Math.floor(Math.random() * n);

/** A closed store with three entries, of which two contradict each other, and an image. Even chunks are here. */
async function makeStore(root: string): Promise<Store> {
  const first = makeSample('first', 20, 9000);
  const other: Sample = { blob: contradict(first.blob, 1), content: first.content };
  const samples = [first, other, makeSample('third', 20, 9000)];
  const cache = await openCache(root, { bootId: 'one' });
  const inos = new Map<string, number>();
  const entries = [];
  for (const sample of samples) {
    const cached = await cache.open(sample.blob);
    for (let chunk = 0; chunk < 20; chunk += 2) store(cache, cached, sample, chunk);
    inos.set(cached.key, cached.ino);
    entries.push(cached);
  }
  const image = storedImage('image', entries);
  await cache.putImage(image, Buffer.alloc(20_000, 3));
  cache.putMount({ directory: '/mnt', reference: 'r', digest: image.digest, kind: 'erofs', since: 1 });
  await cache.close();
  return { root, samples, inos, image };
}

/** Opens everything that was there; nothing may be wrong, and no other blob may have an old number. */
async function check({ root, samples, inos }: Store, bootId: string, context: string): Promise<number> {
  const cache = await openCache(root, { bootId });
  let ready = 0;
  for (const sample of samples) {
    const cached = await cache.open(sample.blob);
    assertNothingWrong(cached, sample.content, context);
    ready += readyChunks(cached).length;
    for (const [key, ino] of inos) assert.ok(cached.ino !== ino || cached.key === key, `${context}: number ${ino}`);
    for (let chunk = 0; chunk < 20; chunk++) store(cache, cached, sample, chunk);
    await cache.release(cached);
  }
  await cache.close();
  return ready;
}

type Damage = (bytes: Buffer) => Buffer;

const damages: Record<string, Damage> = {
  'cut short': (bytes) => bytes.subarray(0, random(bytes.length)),
  empty: () => Buffer.alloc(0),
  zeros: (bytes) => Buffer.alloc(bytes.length),
  noise: (bytes) => Buffer.from(bytes.map(() => random(256))),
  longer: (bytes) => Buffer.concat([bytes, Buffer.alloc(1 + random(9000), 0xff)]),
  'one bit': (bytes) => {
    bytes[random(bytes.length)] ^= 1 << random(8);
    return bytes;
  },
  'a sector of ones': (bytes) => bytes.fill(0xff, 512 * random(bytes.length / 512)).subarray(0, bytes.length),
};

async function damageEach(
  t: TestContext,
  file: (store: Store) => string,
  rounds: number,
  names = Object.keys(damages),
) {
  const directory = temporaryDirectory(t);
  const pristine = await makeStore(join(directory, 'pristine'));
  for (const name of names) {
    for (let round = 0; round < rounds; round++) {
      for (const bootId of ['one', 'two']) {
        const root = join(directory, 'damaged');
        rmSync(root, { recursive: true, force: true });
        cpSync(pristine.root, root, { recursive: true });
        const path = file({ ...pristine, root });
        writeFileSync(path, damages[name](readFileSync(path)));
        await check({ ...pristine, root }, bootId, `${path} ${name} ${round} ${bootId}`);
      }
    }
  }
}

const inEntry = (file: string) => (s: Store) => join(s.root, 'blobs', s.samples[0].blob.id, file);

test('a damaged ready file loses bits and invents none', (t) => damageEach(t, inEntry('ready'), 12));
test('a damaged ledger costs its entry', (t) => damageEach(t, inEntry('chunks'), 8));
test('a data file of another size costs its entry', (t) =>
  damageEach(t, inEntry('data'), 3, ['cut short', 'empty', 'longer']));
test('a damaged catalogue is rebuilt from the directories', (t) =>
  damageEach(t, (s) => join(s.root, 'catalogue.db'), 25));

test('a bit flipped in any byte of the bitmaps is found', async (t) => {
  const directory = temporaryDirectory(t);
  const pristine = await makeStore(join(directory, 'pristine'));
  const root = join(directory, 'damaged');
  cpSync(pristine.root, root, { recursive: true });
  const path = inEntry('ready')({ ...pristine, root });
  const bytes = readFileSync(inEntry('ready')(pristine));
  const { blob, content } = pristine.samples[0];
  for (const page of [0, 1, 2]) {
    // Every bit of the first blocks, and some of the page's own head.
    for (let bit = 20 * 8; bit < 40 * 8; bit += bit < 32 * 8 ? 5 : 1) {
      const at = page * 4096 + (bit >> 3);
      const flipped = Buffer.from(bytes);
      flipped[at] ^= 1 << (bit & 7);
      writeFileSync(path, flipped);
      const cache = await openCache(root, { bootId: page === 2 ? 'two' : 'one' });
      const cached = await cache.open(blob);
      assertNothingWrong(cached, content, `byte ${at}`);
      await cache.close();
    }
  }
});

test('pages and files of one entry do not count in another', async (t) => {
  const store = await makeStore(temporaryDirectory(t));
  const keys = [...store.inos.keys()];
  const path = (key: string, file: string) => join(store.root, 'blobs', key, file);
  // The contradicting entry has the same size: only the number in each page tells them apart.
  const cache = await openCache(store.root, { bootId: 'one' });
  const cached = await cache.reopen(keys[1]);
  await cache.release(cached!);
  await cache.close();
  truncateSync(path(keys[1], 'data'), 0);
  truncateSync(path(keys[1], 'data'), statSync(path(keys[0], 'data')).size);
  writeFileSync(path(keys[1], 'ready'), readFileSync(path(keys[0], 'ready')));
  assert.equal(await check(store, 'one', 'the ready file of another'), 20);
  writeFileSync(path(keys[1], 'chunks'), readFileSync(path(keys[0], 'chunks')));
  await check(store, 'one', 'the ledger of another');
});

test('bits of blocks that no chunk covers do not count', async (t) => {
  const root = temporaryDirectory(t);
  const sample = makeSample('uncovered', 20, 9000);
  const part = partOf(sample.blob, (chunk) => chunk % 2 === 0);
  let cache = await openCache(root, { bootId: 'one' });
  const cached = await cache.open(part);
  for (let chunk = 0; chunk < part.chunks.count; chunk++) store(cache, cached, sample, chunk);
  // A ledger that was lost with a crash leaves bits like these.
  setReady(cached.ready, 0, part.size);
  await cache.close();
  for (const bootId of ['one', 'two']) {
    cache = await openCache(root, { bootId });
    const again = await cache.open(part);
    assertNothingWrong(again, sample.content, bootId);
    assert.equal(readyChunks(again).length, 10);
    await cache.close();
  }
});

test('without the catalogue: entries keep their numbers, images come back, and it is said loudly', async (t) => {
  for (const how of ['gone', 'damaged']) {
    const store = await makeStore(join(temporaryDirectory(t), 'root'));
    const path = join(store.root, 'catalogue.db');
    if (how === 'gone') rmSync(path);
    else writeFileSync(path, 'this is no database, and long enough to be looked at'.repeat(100));
    const { log, lines } = recordLog();
    const cache = await openCache(store.root, { bootId: 'one', log });
    assert.ok(lines.some((line) => line.startsWith('error') && line.includes('catalogue')));
    assert.equal(
      readdirSync(store.root).some((name) => name.includes('.damaged-')),
      how === 'damaged',
    );
    for (const [key, ino] of store.inos) {
      const cached = await cache.reopen(key);
      assert.equal(cached?.ino, ino);
      assert.equal(readyChunks(cached!).length, 10);
    }
    assert.deepEqual(cache.images(), [store.image]);
    const fresh = await cache.open(makeSample('fresh', 2).blob);
    assert.ok(fresh.ino > 2 ** 40, 'numbers that the lost catalogue gave away are not used again');
    await cache.close();
  }
});

test('directories and rows that do not belong together are cleaned up', async (t) => {
  const store = await makeStore(temporaryDirectory(t));
  const [first, second, third] = [...store.inos.keys()];
  const blobs = join(store.root, 'blobs');
  rmSync(join(blobs, first), { recursive: true });
  rmSync(join(blobs, second, 'chunks'));
  cpSync(join(blobs, third), join(blobs, `${third}~7`), { recursive: true });
  cpSync(join(blobs, third), join(blobs, 'no name of ours'), { recursive: true });
  for (const directory of ['tmp', 'trash'])
    cpSync(join(blobs, third), join(store.root, directory, 'left'), { recursive: true });
  rmSync(join(store.root, 'images', readdirSync(join(store.root, 'images'))[0], 'bootstrap'));
  const cache = await openCache(store.root, { bootId: 'one' });
  assert.equal(await cache.reopen(first), undefined);
  assert.equal(await cache.reopen(second), undefined);
  assert.equal(readyChunks((await cache.reopen(third))!).length, 10);
  assert.deepEqual(cache.images(), []);
  await cache.close();
  assert.deepEqual(readdirSync(blobs), [third]);
  assert.deepEqual([...readdirSync(join(store.root, 'tmp')), ...readdirSync(join(store.root, 'trash'))], []);
});

test('a description of an image that is JSON and no image costs the image alone', async (t) => {
  for (const text of ['null', '7', '[]', '{"digest":"sha256:1"}']) {
    const store = await makeStore(join(temporaryDirectory(t), 'root'));
    rmSync(join(store.root, 'catalogue.db'));
    writeFileSync(join(store.root, 'images', store.image.digest.slice('sha256:'.length), 'image.json'), text);
    const cache = await openCache(store.root, { bootId: 'one' });
    assert.deepEqual(cache.images(), [], text);
    assert.equal(cache.usage().blobs, 3);
    await cache.close();
  }
});
