/** ZRAN images of our own through the whole program: chunks come out of a gzip layer, context by context. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { gzipSync } from 'node:zlib';
import { cannotMount, testDaemon } from '../daemon.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { makeZranImage, type ZranImage } from '../zran-image.ts';

const skip = cannotMount();
const int = (limit: number) => Math.floor(Math.random() * limit);

const words = Array.from({ length: 500 }, () => randomBytes(5).toString('hex'));
const text = (size: number) => {
  const parts: string[] = [];
  for (let made = 0; made < size; made += 11) parts.push(words[int(500)]);
  return Buffer.from(parts.join(' ').slice(0, size));
};
/** Text, noise, runs, small files, and one over many contexts. */
const FILES = [
  { name: 'empty', content: Buffer.alloc(0) },
  {
    name: 'large',
    content: Buffer.concat(Array.from({ length: 40 }, () => Buffer.concat([text(70_000), randomBytes(9000)]))),
  },
  { name: 'noise', content: randomBytes(300_000) },
  ...Array.from({ length: 60 }, (_, i) => ({
    name: `small${String(i).padStart(2, '0')}`,
    content: text(1 + int(9000)),
  })),
  { name: 'zeros', content: Buffer.alloc(500_000) },
];

describe('zran', { skip }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-zran-'));
  const layout = join(directory, 'layout');
  const sizes = { distance: 200_000, chunkSize: 128 << 10 };
  const images: Record<string, ZranImage> = {
    one: makeZranImage(layout, 'one', FILES, { ...sizes, toc: true }),
    // Two members, and nobody has the chunk information but its own object.
    two: makeZranImage(layout, 'two', FILES, {
      ...sizes,
      metaInLayer: false,
      compress: (tar) => {
        const half = tar.length >> 1;
        return Buffer.concat([
          gzipSync(tar.subarray(0, half), { level: 9 }),
          gzipSync(tar.subarray(half), { level: 1 }),
        ]);
      },
    }),
    tocless: makeZranImage(layout, 'tocless', FILES, { ...sizes, metaInLayer: false, toc: true }),
  };
  const registries: TestRegistry[] = [];
  after(async () => {
    for (const registry of registries) await registry.close();
    rmSync(directory, { recursive: true });
  });
  const serve = async () => {
    const registry = await startRegistry({ layouts: { zran: layout } });
    registries.push(registry);
    return registry;
  };
  const tomlFor = (host: string) => `[registry]\nplain_http = ["${host}"]\n`;

  /** Asynchronously: the registry that the reads wait for is in this process. */
  async function check(place: string, names = FILES.map(({ name }) => name)): Promise<void> {
    for (const name of names) {
      const { content } = FILES.find((file) => file.name === name)!;
      assert.equal(hash('sha256', await readFile(join(place, name))), hash('sha256', content), name);
    }
  }

  test('every file is right: one member and two, with the chunk information in the layer and beside it, from a folder', async (t) => {
    const { host } = await serve();
    const daemon = await testDaemon(t, { toml: tomlFor(host) });
    for (const tag of Object.keys(images)) {
      const place = daemon.place(tag);
      const mounted = await daemon.nymph('mount', '--prefetch', 'none', `${host}/zran:${tag}`, place);
      assert.equal(mounted.status, 0, mounted.err);
      const shuffled = FILES.map(({ name }) => name).sort(() => Math.random() - 0.5);
      await check(place, shuffled);
      const { json } = await daemon.nymph('status', `${host}/zran:${tag}`);
      assert.deepEqual((json as { blobs: { traits: string[] }[] }).blobs[0].traits, ['zran']);
      assert.equal((await daemon.nymph('umount', place)).status, 0);
    }
    const folder = join(directory, 'folder');
    const { bootstrap, stream, meta, id, metaId } = images.two;
    mkdirSync(join(folder, 'blobs'), { recursive: true });
    writeFileSync(join(folder, 'bootstrap'), bootstrap);
    writeFileSync(join(folder, 'blobs', id), stream.gzip);
    writeFileSync(join(folder, 'blobs', metaId), meta);
    const place = daemon.place('folder');
    assert.equal((await daemon.nymph('mount', '--via', 'fuse', `rafs:${folder}`, place)).status, 0);
    await check(place);
    const verified = await daemon.nymph('verify', `${host}/zran:two`);
    assert.equal(verified.status, 0, verified.err);
    const checked = await daemon.nymph('run-check', `${host}/zran:one`);
    assert.match((checked.json as { reason: string }).reason, /\(zran\).*every chunk verified/);
    const { json } = await daemon.nymph('inspect', `${host}/zran:one`);
    const { layers, blobs } = json as { layers: { role: string }[]; blobs: { digest: string; features: string[] }[] };
    assert.deepEqual(
      layers.map(({ role }) => role),
      ['reference', 'bootstrap'],
    );
    assert.equal(blobs[0].digest, `sha256:${images.one.id}`);
    assert.ok(blobs[0].features.includes('ZRAN'));
  });

  test('a daemon that is killed goes on from what is on the disk, without the image', async (t) => {
    const registry = await serve();
    const { host } = registry;
    const daemon = await testDaemon(t, { toml: tomlFor(host) });
    const place = daemon.place('m');
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `${host}/zran:one`, place);
    assert.equal(mounted.status, 0, mounted.err);
    const { manifests } = registry.stats;
    for (let i = 0; i < 3; i++) {
      const { pid } = await daemon.client.health();
      await daemon.kill('daemon');
      await daemon.another(pid);
      await check(place, ['large', 'noise', `small${i}1`].slice(i, i + 1));
      await sleep(50);
    }
    await check(place);
    assert.equal(registry.stats.manifests, manifests, 'no manifest is asked for again');
  });

  test('a read far into the layer costs its context and no more', async (t) => {
    const { host } = await serve();
    const daemon = await testDaemon(t, { toml: tomlFor(host) });
    const place = daemon.place('m');
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `${host}/zran:one`, place);
    assert.equal(mounted.status, 0, mounted.err);
    const fetched = async () =>
      Object.values((await daemon.client.status()).fetch.bytes).reduce((sum, n) => sum + n, 0);
    const { contexts } = images.one.stream;
    const largest = Math.max(...contexts.map(({ size }) => size));
    const before = await fetched();
    await check(place, ['small59']);
    const cost = (await fetched()) - before;
    assert.ok(cost > 0 && cost <= largest, `${cost} of at most ${largest}`);
  });
});
