/** What a start of an image reads is known to the next one, on this node and on others. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { cannotMount, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const FILES = 40;
const FILE_BYTES = 100_000;
/** Far apart, so that none comes with another. */
const READ = ['file-35', 'file-04', 'file-20'];

describe('what a start reads', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  // What is pushed to a registry goes into its layout.
  beforeEach(async () => {
    image = await makeImage(mkdtempSync(join(directory, 'made-')), 'app', (tree) => {
      for (let i = 0; i < FILES; i++)
        writeFileSync(join(tree, `file-${String(i).padStart(2, '0')}`), randomBytes(FILE_BYTES));
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const mount = async (daemon: TestDaemon, registry: TestRegistry): Promise<string> => {
    const place = daemon.place('image');
    await daemon.client.mount({ reference: `${registry.host}/app:app`, directory: place, options: {} });
    return place;
  };
  const ready = async (daemon: TestDaemon) => (await daemon.client.image(image.digest)).ready;

  async function start(daemon: TestDaemon, registry: TestRegistry): Promise<string> {
    const place = await mount(daemon, registry);
    for (const name of READ) assert.equal((await run('cat', [join(place, name)])).status, 0);
    return place;
  }

  for (const referrers of ['present', 'absent'] as const)
    test(`is fetched ahead on another node, from a registry with the referrers API ${referrers}`, async (t) => {
      const registry = await startRegistry({
        layouts: { app: image.layout },
        faults: referrers === 'absent' ? { referrers } : {},
      });
      t.after(() => registry.close());
      const first = await testDaemon(t);
      await start(first, registry);
      const shown = await first.nymph('trace', `${registry.host}/app:app`);
      assert.deepEqual(
        (shown.json as { files: string[] }).files,
        READ.map((name) => `/${name}`),
      );
      const pushed = await first.nymph('trace', '--push', `${registry.host}/app:app`);
      assert.equal(pushed.status, 0, pushed.err);

      const second = await testDaemon(t);
      const place = await mount(second, registry);
      await until(10_000, 'nothing came ahead', async () =>
        (await ready(second)) >= READ.length * FILE_BYTES ? true : undefined,
      );
      await sleep(200);
      assert.ok((await ready(second)) < (READ.length + 1) * FILE_BYTES, 'and nothing else came');
      const { fuse } = await second.client.status();
      for (const name of READ) assert.equal((await run('cmp', [join(place, name), join(image.truth, name)])).status, 0);
      assert.equal((await second.client.status()).fuse.faults, fuse.faults, 'no reader waited');
    });

  test('is fetched ahead at the next mount here, though the image was removed', async (t) => {
    const registry = await startRegistry({ layouts: { app: image.layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    await daemon.client.unmount(await start(daemon, registry), false);
    await until(10_000, 'the image stays', async () => {
      await daemon.client.prune({ target: 0 });
      return (await daemon.client.status()).cache.images === 0 ? true : undefined;
    });
    await mount(daemon, registry);
    await until(10_000, 'nothing came ahead', async () =>
      (await ready(daemon)) >= READ.length * FILE_BYTES ? true : undefined,
    );
  });

  test('is not asked for where that is switched off, and nothing of a start without reads is pushed', async (t) => {
    const registry = await startRegistry({ layouts: { app: image.layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t, { toml: '[fetch]\ntraces = false\n' });
    await mount(daemon, registry);
    await sleep(200);
    assert.ok(!registry.stats.log.some(({ url }) => url.includes('referrers')));
    const nothing = await daemon.nymph('trace', '--push', `${registry.host}/app:app`);
    assert.notEqual(nothing.status, 0);
    assert.match(JSON.stringify(nothing.json), /no start of .* was traced/);
  });
});
