/** Images from different places that are made of the same blobs. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotMount, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { noDockerRegistry, startDockerRegistry } from '../docker-registry.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { makeImage } from '../made-image.ts';
import { checkTree } from '../manifest.ts';
import { type Descriptor, makeModel, put, putManifest } from '../model.ts';

const KNOWN = ['/srv', '/srv/pages'].map((path) => ({ path, field: 'mtime' }));

/** Mounts two copies of an image, takes one of them away, and reads both mounts. */
async function loseOne(daemon: TestDaemon, lost: 'first' | 'second'): Promise<void> {
  const places: string[] = [];
  for (const name of ['first', 'second']) {
    const layout = join(daemon.directory, `oci-${name}`);
    cpSync(APP_LAYOUT, layout, { recursive: true });
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `oci:${layout}:nydus`, daemon.place(name));
    assert.equal(mounted.status, 0, mounted.err);
    places.push(daemon.place(name));
  }
  rmSync(join(daemon.directory, `oci-${lost}`), { recursive: true });
  for (const place of places)
    assert.deepEqual(await checkTree(place, APP_MANIFEST, { how: 'order', exceptions: KNOWN }), [], place);
}

describe('images that share blobs', { skip: cannotMount() }, () => {
  for (const lost of ['first', 'second'] as const)
    test(`the place of the ${lost} image goes away: both are read on`, async (t) => {
      await loseOne(await testDaemon(t), lost);
    });
});

/** A model that has a file whose bytes are the data blob of the image. */
function modelOfBlob(layout: string): { digest: string; size: number } {
  const read = (digest: string) => JSON.parse(readFileSync(join(APP_LAYOUT, 'blobs/sha256', digest.slice(7)), 'utf8'));
  const { manifests } = JSON.parse(readFileSync(join(APP_LAYOUT, 'index.json'), 'utf8')) as { manifests: Descriptor[] };
  const tag = manifests.find(({ annotations }) => annotations?.['org.opencontainers.image.ref.name'] === 'nydus')!;
  const { layers } = read(tag.digest) as { layers: Descriptor[] };
  const { digest, size } = layers.find(({ mediaType }) => mediaType.includes('nydus.blob'))!;
  const bytes = readFileSync(join(APP_LAYOUT, 'blobs/sha256', digest.slice(7)));
  makeModel(layout, 'model', [{ path: 'weights.bin', bytes }]);
  return { digest, size };
}

describe('an image and a model with the same blob', { skip: cannotMount() }, () => {
  for (const order of [
    ['image', 'model'],
    ['model', 'image'],
  ])
    test(`the ${order[0]} first: each gets its own bytes, the one decoded and the other as they stand`, async (t) => {
      const daemon = await testDaemon(t);
      const layout = join(daemon.directory, 'model-layout');
      const { digest } = modelOfBlob(layout);
      const references = { image: `oci:${APP_LAYOUT}:nydus`, model: `oci:${layout}:model` };
      const look = async () => {
        const sum = await run('sha256sum', [join(daemon.place('model'), 'weights.bin')]);
        assert.equal(`sha256:${sum.out.toString().split(' ')[0]}`, digest);
        const image = await checkTree(daemon.place('image'), APP_MANIFEST, { how: 'order', exceptions: KNOWN });
        assert.deepEqual(image, []);
      };
      for (const name of order as (keyof typeof references)[]) {
        const mounted = await daemon.nymph('mount', references[name], daemon.place(name));
        assert.equal(mounted.status, 0, mounted.err);
      }
      await look();
      const { pid } = await daemon.client.health();
      await daemon.supervised();
      await daemon.kill('daemon');
      await daemon.another(pid);
      await look();
    });
});

describe('out of one registry', { skip: cannotMount() || noDockerRegistry() }, () => {
  test('the data of an image whose blob is here as a checked file of a model is not fetched', async (t) => {
    const daemon = await testDaemon(t, { toml: '[dragonfly]\nendpoint = "none"\n' });
    const made = await makeImage(daemon.directory, 'nydus', (tree) => {
      for (let i = 0; i < 24; i++) writeFileSync(join(tree, `file-${i}`), randomBytes(500_000 + i));
    });
    const read = (digest: string) =>
      JSON.parse(readFileSync(join(made.layout, 'blobs/sha256', digest.slice(7)), 'utf8'));
    const [blob] = (read(made.digest) as { layers: Descriptor[] }).layers;
    const layers = [{ ...blob, annotations: { 'org.opencontainers.image.title': 'weights.bin' } }];
    const config = put(made.layout, 'application/vnd.oci.empty.v1+json', Buffer.from('{}'));
    putManifest(made.layout, 'model', { artifactType: 'application/vnd.example.model', config, layers });
    const registry = await startDockerRegistry(t, daemon.directory);
    const references = {
      image: await registry.push(made.layout, 'nydus', 'app'),
      model: await registry.push(made.layout, 'model', 'model'),
    };
    const fetched = async () => (await daemon.client.status()).fetch.bytes;
    const pulled = await daemon.nymph('pull', references.model);
    assert.equal(pulled.status, 0, pulled.err);
    const before = await fetched();
    assert.ok(before[registry.host] >= blob.size, 'the model came from the registry');
    const mounted = await daemon.nymph('mount', references.image, daemon.place('image'));
    assert.equal(mounted.status, 0, mounted.err);
    const manifest = join(daemon.directory, 'manifest');
    writeFileSync(manifest, (await run(process.execPath, ['test/manifest.ts', made.truth])).out);
    assert.deepEqual(await checkTree(daemon.place('image'), manifest, { how: 'order' }), []);
    const after = await fetched();
    assert.equal(after[registry.host], before[registry.host]);
    assert.ok(after.cache > 11 << 20, `${after.cache} bytes came from the cache`);
  });
});
