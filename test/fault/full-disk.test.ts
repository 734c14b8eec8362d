/** A root on a disk that is too small, and a quota that is: reads stay right, and nothing that is mounted goes. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NymphError } from '../../src/errors.ts';
import { cannotMount, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startReaders } from '../readers.ts';
import { smallDisk } from '../small-disk.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

const MIB = 1 << 20;

describe('too little space', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const images: MadeImage[] = [];
  before(async () => {
    for (const [i, name] of ['one', 'two', 'three'].entries())
      images.push(
        await makeImage(directory, name, (tree) => {
          makeManyFiles(tree, { count: 50, seed: i + 1 });
          makeBigFile(join(tree, 'big'), 24 * MIB, i + 1);
        }),
      );
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  const reference = (image: MadeImage) => `oci:${image.layout}:${image.tag}`;
  const mount = async (daemon: TestDaemon, image: MadeImage): Promise<string> => {
    const place = daemon.place(`m-${image.tag}`);
    await daemon.client.mount({ reference: reference(image), directory: place, options: { prefetch: 'none' } });
    return place;
  };
  const same = async (image: MadeImage, place: string) => {
    const { status, out, err } = await run('diff', ['-r', image.truth, place]);
    assert.equal(status, 0, `${out.toString().slice(0, 500)}${err.slice(0, 500)}`);
  };

  test('a full disk: reads go on and are right; with space again the cache grows again', async (t) => {
    const made = await smallDisk(t, 40 * MIB);
    if ('why' in made) return t.skip(made.why);
    const disk = made.point;
    // A file of somebody else: 12 MiB are left, of which an image takes 24.
    const { bavail, bsize } = statfsSync(disk);
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(Math.max(0, bavail * bsize - 12 * MIB), 1));
    const daemon = await testDaemon(t, { root: join(disk, 'r') });
    const place = await mount(daemon, images[0]);
    await same(images[0], place);
    const readers = startReaders(t, images[0].truth, place, { readers: 6 });
    await sleep(1500);
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    assert.equal((await daemon.client.status()).cache.writable, false);
    const pulled = await daemon.nymph('pull', reference(images[0]));
    assert.equal((pulled.json as { error: NymphError }).error.code, 'cache', pulled.err);
    assert.equal(pulled.status, 1);
    assert.ok((await daemon.told('ENOSPC')).length > 0);

    // A daemon that dies on a full disk starts on it.
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    await same(images[0], place);

    rmSync(join(disk, 'ballast'));
    await until(15_000, 'the cache does not recover', async () => {
      const { cache } = await daemon.client.status();
      return cache.writable || undefined;
    });
    const again = await daemon.nymph('pull', reference(images[0]));
    assert.equal(again.status, 0, again.err);
    const { image } = again.json as { image: { ready: number; size: number } };
    assert.equal(image.ready, image.size);
    const verified = await daemon.client.verify({ target: reference(images[0]), cachedOnly: true });
    assert.deepEqual([verified.absent, verified.bad], [0, []]);
    await same(images[0], place);
  });

  test('a quota: the image that was used least lately goes, and never one that is mounted', async (t) => {
    const daemon = await testDaemon(t, { toml: '[cache]\nquota = "60MiB"' });
    const place = await mount(daemon, images[0]);
    await same(images[0], place);
    await daemon.client.pull({ reference: reference(images[1]) });
    await sleep(50);
    await daemon.client.pull({ reference: reference(images[2]) });
    const left = await until(10_000, 'nothing is evicted', async () => {
      const found = await daemon.client.images();
      return found.length < 3 ? found : undefined;
    });
    assert.deepEqual(left.map((image) => image.reference).sort(), [images[0], images[2]].map(reference).sort());
    const { cache } = await daemon.client.status();
    assert.ok(cache.bytes <= 60 * MIB, `${cache.bytes} bytes`);
    await same(images[0], place);
    await daemon.client.pull({ reference: reference(images[1]) });
    await until(10_000, 'the image that was pulled before is not evicted', async () => {
      const found = await daemon.client.images();
      return found.every((image) => image.reference !== reference(images[2])) || undefined;
    });
    await same(images[0], place);
  });

  test('a quota that is smaller than what is mounted: all of it stays readable', async (t) => {
    const daemon = await testDaemon(t, { toml: '[cache]\nquota = "10MiB"' });
    const places = [];
    for (const image of images) places.push([image, await mount(daemon, image)] as const);
    for (const [image, place] of places) await same(image, place);
    const readers = places.map(([image, place]) => startReaders(t, image.truth, place, { readers: 2 }));
    await sleep(1000);
    for (const reader of readers) {
      const seen = await reader.stop();
      assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    }
    assert.equal((await daemon.client.images()).length, 3);
    for (const [, place] of places) await daemon.client.unmount(place, false);
    // The kernel may use a mount for a moment after its last reader has ended.
    await until(20_000, 'more than the quota is kept', async () => {
      const pruned = await daemon.nymph('prune');
      assert.equal(pruned.status, 0, pruned.err);
      return (await daemon.client.status()).cache.bytes <= 10 * MIB || undefined;
    });
  });
});
