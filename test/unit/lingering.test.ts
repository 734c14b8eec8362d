/** Images whose mount is gone: who holds them, and what the catalogue says of them. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Cache, StoredMount } from '../../src/cache/cache.ts';
import type { AttachedImage } from '../../src/mount/attach.ts';
import { createLingering } from '../../src/mount/lingering.ts';
import { until } from '../daemon.ts';

const stored: StoredMount = {
  directory: '/mnt/app',
  reference: 'registry.example/app:1',
  digest: `sha256:${'0'.repeat(64)}`,
  kind: 'fuse',
  tree: 2 ** 47,
  since: 1,
};

function setUp() {
  const rows = new Map([[stored.directory, stored]]);
  const cache = {
    putMount: (mount: StoredMount) => void rows.set(mount.directory, mount),
    removeMount: (directory: string) => void rows.delete(directory),
    mounts: () => [...rows.values()],
  } as unknown as Cache;
  const image = { released: 0, release: async () => void image.released++ };
  return { rows, cache, image, attached: image as unknown as AttachedImage };
}

test('the catalogue knows of an image that may be in use at every moment', async () => {
  const { rows, cache, image, attached } = setUp();
  const asked = Promise.withResolvers<boolean>();
  const lingering = createLingering(
    cache,
    () => asked.promise,
    () => {},
  );
  const taking = lingering.take(stored, attached);
  assert.deepEqual(
    [...rows.values()].map(({ tree, unmounted }) => [tree, unmounted]),
    [[stored.tree, true]],
    'a daemon that starts now takes it up',
  );
  asked.resolve(false);
  await taking;
  assert.equal(rows.size, 0);
  assert.equal(image.released, 1);
});

test('an unmount has succeeded though the catalogue takes nothing just then, and what it keeps goes later', async () => {
  const { rows, cache, image, attached } = setUp();
  const { removeMount } = cache;
  let failures = 3;
  cache.removeMount = (directory) => {
    if (directory.startsWith('unmounted:') && failures-- > 0) throw new Error('database or disk is full');
    removeMount(directory);
  };
  const said: string[] = [];
  const lingering = createLingering(
    cache,
    async () => false,
    (level, message) => void said.push(`${level}: ${message}`),
  );
  await lingering.take(stored, attached);
  assert.deepEqual([rows.size, image.released], [1, 0], 'held');
  await until(30_000, 'it is kept', async () => (rows.size === 0 && image.released === 1 ? true : undefined));
  assert.deepEqual(said, ['error: the catalogue keeps a mount that is gone']);
});

test('an entry that could not be replaced goes with the image, unless another mount has come to the same place', async () => {
  for (const isMountedAgain of [false, true]) {
    const { rows, cache, image, attached } = setUp();
    const { putMount } = cache;
    cache.putMount = () => {
      throw new Error('database or disk is full');
    };
    const asked = Promise.withResolvers<boolean>();
    const lingering = createLingering(
      cache,
      () => asked.promise,
      () => {},
    );
    const taking = lingering.take(stored, attached);
    assert.deepEqual([...rows.values()], [stored], 'a daemon that starts now takes up the mount, and finds it gone');
    const again = { ...stored, since: 2 };
    if (isMountedAgain) putMount(again);
    asked.resolve(false);
    await taking;
    assert.deepEqual([...rows.values()], isMountedAgain ? [again] : []);
    assert.equal(image.released, 1);
  }
});

test('where nobody can tell whether an image is in use, it is served on, and that is said once', async () => {
  const { rows, cache, image, attached } = setUp();
  const said: string[] = [];
  let asked = 0;
  const lingering = createLingering(
    cache,
    async () => {
      if (++asked < 3) throw new Error('the disk refuses');
      return false;
    },
    (level, message) => {
      if (level === 'error') said.push(message);
    },
  );
  await lingering.take(stored, attached);
  assert.equal(image.released, 0);
  assert.equal(rows.size, 1);
  await until(20_000, 'the image is still held', async () => (image.released > 0 ? true : undefined));
  assert.equal(rows.size, 0);
  assert.equal(said.length, 1);
});
