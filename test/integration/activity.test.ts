/** What is told of images that are read, and what can be fetched ahead of readers by hand. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ImageActivity, ImageInfo, PrefetchResult, TraceInfo } from '../../src/daemon/api.ts';
import { cannotMount, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const FILES = 30;
const FILE_BYTES = 100_000;

describe('what is going on with an image', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  let other: MadeImage;
  let registry: TestRegistry;
  before(async () => {
    const fill = (first: number) => (tree: string) => {
      for (let i = first; i < FILES; i++) writeFileSync(join(tree, `file-${i}`), randomBytes(FILE_BYTES));
    };
    image = await makeImage(directory, 'app', fill(0));
    other = await makeImage(directory, 'next', fill(5));
    registry = await startRegistry({ layouts: { app: image.layout } });
  });
  after(async () => {
    await registry.close();
    rmSync(directory, { recursive: true, force: true });
  });

  const mount = async (daemon: TestDaemon, tag = 'app', via: 'erofs' | 'fuse' = 'erofs') => {
    const place = daemon.place(`${tag}-${via}`);
    const options = { prefetch: 'none' as const, via };
    await daemon.client.mount({ reference: `${registry.host}/app:${tag}`, directory: place, options });
    return place;
  };
  const read = async (place: string, name: string) => assert.equal((await run('cat', [join(place, name)])).status, 0);

  test('status tells whence it came, and which reads waited longest, by file', async (t) => {
    const daemon = await testDaemon(t);
    const place = await mount(daemon);
    await read(place, 'file-3');
    const shown = await daemon.nymph('status', `${registry.host}/app:app`);
    assert.equal(shown.status, 0, shown.err);
    const status = shown.json as ImageActivity & ImageInfo;
    assert.deepEqual(status.laziness, {
      lazy: true,
      why: 'mounted by EROFS; what is missing comes when it is read',
    });
    assert.equal(status.digest, image.digest);
    assert.ok(status.faults > 0 && status.failed === 0);
    assert.deepEqual(Object.keys(status.bytes), [registry.host]);
    assert.ok(status.bytes[registry.host] >= FILE_BYTES);
    assert.ok(status.slowest.length > 0);
    assert.ok(status.slowest.every(({ path, milliseconds }) => path === '/file-3' && milliseconds >= 0));
    assert.deepEqual(
      status.slowest.map(({ milliseconds }) => milliseconds),
      status.slowest.map(({ milliseconds }) => milliseconds).toSorted((a, b) => b - a),
    );

    await daemon.client.unmount(place, false);
    const after = await daemon.client.activity(image.digest);
    assert.equal(after.laziness.why, 'it is not mounted; what is missing comes when it is read');
    assert.equal((await daemon.nymph('status', `${registry.host}/app:absent`)).status, 3);
  });

  test('what is served is told as it fills, each mounted image once', async (t) => {
    const daemon = await testDaemon(t);
    assert.deepEqual((await daemon.client.live()).images, []);
    const place = await mount(daemon);
    await mount(daemon, 'app', 'fuse');
    await daemon.client.prefetch({ target: place, files: ['/file-0', 'file-29'] });
    const { images, fuse, fetch, health } = await daemon.client.live();
    assert.equal(health.pid, (await daemon.client.health()).pid);
    assert.equal(images.length, 1);
    const [{ size, ready, mounts, blobs, bytes }] = images;
    assert.equal(mounts.length, 2);
    assert.equal(size, FILES * FILE_BYTES);
    assert.ok(ready >= 2 * FILE_BYTES && ready < 3 * FILE_BYTES, String(ready));
    assert.ok(bytes[registry.host] >= 2 * FILE_BYTES);
    assert.equal(fuse.waiting, 0);
    assert.equal(fetch.faultLatencyMs.counts.length, fetch.faultLatencyMs.bounds.length + 1);
    assert.equal(blobs.length, 1);
    assert.equal(blobs[0].cells, undefined);
  });

  test('prefetch fetches what a trace names, from nowhere else than a trace of another node', async (t) => {
    const first = await testDaemon(t);
    const place = await mount(first);
    for (const name of ['file-7', 'file-2']) await read(place, name);
    const traced = await first.nymph('trace', `${registry.host}/app:app`);
    assert.deepEqual((traced.json as TraceInfo).files, ['/file-7', '/file-2']);
    const file = join(directory, 'app.trace');
    writeFileSync(file, traced.out);

    // On a node that has nothing of it: the trace says which image it is of.
    const second = await testDaemon(t);
    const cold = await second.nymph('prefetch', '--from', file);
    assert.equal(cold.status, 0, cold.err);
    const result = cold.json as PrefetchResult;
    assert.equal(result.digest, image.digest);
    assert.ok(result.fetched >= 2 * FILE_BYTES && result.fetched < 3 * FILE_BYTES, `${result.fetched} fetched`);
    const { fuse } = await second.client.status();
    const there = await mount(second);
    for (const name of ['file-7', 'file-2']) await read(there, name);
    assert.equal((await second.client.status()).fuse.faults, fuse.faults, 'nobody waited');
    const again = (await second.nymph('prefetch', '--from', file, there)).json as PrefetchResult;
    assert.equal(again.fetched, 0);

    // Of another version of the image only the names are worth something.
    const next = (await second.nymph('prefetch', '--from', file, `${registry.host}/app:next`)).json as PrefetchResult;
    assert.equal(next.digest, other.digest);
    assert.deepEqual([next.files, next.missing], [1, ['/file-2']]);
    assert.ok(next.fetched >= FILE_BYTES && next.fetched < 2 * FILE_BYTES);

    const bare = join(directory, 'bare.trace');
    writeFileSync(bare, JSON.stringify({ digest: image.digest, trace: (traced.json as TraceInfo).trace }));
    const wrong = await second.nymph('prefetch', '--from', bare, `${registry.host}/app:next`);
    assert.equal(wrong.status, 2);
    assert.match(wrong.out.toString(), /names nothing of .*app:next/);
  });

  test('prefetch takes a list of files from standard input, and says what is not there', async (t) => {
    const daemon = await testDaemon(t);
    const place = await mount(daemon);
    const config = join(daemon.directory, 'config.toml');
    const nymph = join(import.meta.dirname, '..', '..', 'bin', 'nymph');
    const args = ['--config', config, 'prefetch', '--from', '-', place];
    const done = await run(nymph, args, { input: '/file-1\n/absent\n/file-1\nfile-4\n' });
    assert.equal(done.status, 0, done.err);
    assert.match(
      done.out.toString(),
      /^2 files \(195 KiB\) of .*app:app here; .* fetched in .*\nnot in the image: \/absent\n$/,
    );
    assert.ok((await daemon.client.image(image.digest)).ready >= 2 * FILE_BYTES);
    const nobody = await run(nymph, ['--config', config, 'prefetch', '--from', '-'], { input: '/file-1\n' });
    assert.equal(nobody.status, 2);
    assert.match(nobody.err, /standard input does not say of which image it is|- does not say/);
    const nothing = await run(nymph, args, { input: '' });
    assert.equal(nothing.status, 2);
  });
});
