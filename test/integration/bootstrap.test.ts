/** A bootstrap that the disk damages after it was verified: it is never mounted. */
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import Database from 'better-sqlite3';
import { cannotMount, mountsBelow, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { makeManyFiles } from '../tree.ts';

describe('a bootstrap that was damaged on disk', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  let reference: string;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => makeManyFiles(tree, { count: 50 }));
    reference = `oci:${image.layout}:made`;
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  const same = async (place: string) => assert.equal((await run('diff', ['-r', image.truth, place])).status, 0);
  const mount = (daemon: TestDaemon, place: string) => daemon.client.mount({ reference, directory: place });

  /** Flips a bit in the last third, where the kernel would not look at once. @returns how it was */
  function damage(daemon: TestDaemon): { path: string; good: Buffer } {
    const images = join(daemon.root, 'images');
    const path = join(images, readdirSync(images)[0], 'bootstrap');
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[Math.floor((bad.length * 2) / 3)] ^= 1;
    // Another file: a mount that is there keeps what it has.
    rmSync(path);
    writeFileSync(path, bad);
    return { path, good };
  }

  test('the next mount reads the image again, and the damage is repaired', async (t) => {
    const daemon = await testDaemon(t);
    const places = ['a', 'b'].map((name) => daemon.place(name));
    await mount(daemon, places[0]);
    const { path, good } = damage(daemon);
    await mount(daemon, places[1]);
    assert.ok(readFileSync(path).equals(good));
    assert.equal((await daemon.told('reading an image again')).length, 1);
    assert.match((await daemon.told('reading an image again'))[0], /bootstrap .* is damaged/);
    for (const place of places) await same(place);
    await daemon.client.unmount(places[1], false);
    await mount(daemon, places[1]);
    assert.equal(daemon.logged('reading an image again').length, 1, 'and then no more');
    await daemon.stop();
  });

  test('an image of a version that kept no digest is read again, once', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await mount(daemon, place);
    await daemon.client.unmount(place, false);
    await daemon.stop();
    const catalogue = new Database(join(daemon.root, 'catalogue.db'));
    const changed = catalogue.prepare(`UPDATE images SET image = json_remove(image, '$.bootstrapDigest')`).run();
    assert.equal(changed.changes, 1);
    catalogue.close();
    await daemon.start();
    for (let round = 0; round < 2; round++) {
      await mount(daemon, place);
      await same(place);
      await daemon.client.unmount(place, false);
    }
    assert.match(daemon.logged('reading an image again').join('\n'), /^[^\n]*its digest was not kept[^\n]*$/);
    await daemon.stop();
  });

  test('a daemon that starts again does not mount it, and says so', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await mount(daemon, place);
    await daemon.stop();
    const { path, good } = damage(daemon);
    await daemon.start();
    assert.deepEqual(await daemon.client.mounts(), []);
    assert.deepEqual(mountsBelow(place), []);
    assert.match(daemon.logged('cannot take up a mount').join('\n'), new RegExp(`bootstrap ${path} is damaged`));
    await mount(daemon, place);
    assert.ok(readFileSync(path).equals(good));
    await same(place);
    await daemon.stop();
  });

  test('a mount that is alive is served on, and the damage is said', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place, options: { prefetch: 'none' } });
    damage(daemon);
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.deepEqual(
      (await daemon.client.mounts()).map((entry) => [entry.directory, entry.state]),
      [[place, 'ok']],
    );
    await same(place);
    const said = () => daemon.logged('the bootstrap of a mount is not as it was');
    await until(5000, 'nothing is said', async () => said().length > 0 || undefined);
    assert.match(said()[0], /is damaged/);
    await daemon.stop();
  });
});
