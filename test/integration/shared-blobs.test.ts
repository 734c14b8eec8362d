/** Images from different places that are made of the same blobs. */
import assert from 'node:assert/strict';
import { cpSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotMount, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { checkTree } from '../manifest.ts';
import { type Descriptor, makeModel } from '../model.ts';

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
