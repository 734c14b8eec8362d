import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { test } from 'node:test';
import type { OciDigest } from '../../src/image/image.ts';
import { withNearby } from '../../src/sources/nearby.ts';
import type { Repository } from '../../src/sources/source.ts';

const never = new AbortController().signal;
const manifest = Buffer.from('{"mediaType":"application/vnd.oci.image.manifest.v1+json","layers":[]}');
const layer = Buffer.from('a bootstrap');
const digestOf = (bytes: Buffer): OciDigest => `sha256:${hash('sha256', bytes)}`;

/** A repository that counts what it is asked for. */
function repository(): Repository & { asked: string[] } {
  const asked: string[] = [];
  const said = (what: string) => {
    asked.push(what);
    return { descriptor: { mediaType: 'from afar', digest: digestOf(manifest), size: 1 }, bytes: manifest };
  };
  return {
    asked,
    reference: 'r.example/app',
    kind: 'registry',
    resolve: async () => said('resolve'),
    manifest: async () => said('manifest'),
    get: async () => said('get').bytes,
    open: () => assert.fail('not asked'),
    close: async () => {},
  };
}

test('what is near by is taken from there, what is absent or wrong from the repository', async () => {
  const objects = new Map<string, Buffer>([manifest, layer].map((bytes) => [digestOf(bytes), bytes]));
  const far = repository();
  const near = withNearby(far, async (digest) => objects.get(digest), digestOf(manifest));
  const found = await near.resolve(never);
  assert.equal(found.bytes, manifest);
  assert.deepEqual(found.descriptor, {
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    digest: digestOf(manifest),
    size: manifest.length,
  });
  const wanted = { digest: digestOf(layer), size: layer.length };
  assert.equal(await near.get(wanted, 1 << 20, never), layer);
  assert.deepEqual(far.asked, []);
  objects.set(digestOf(layer), Buffer.from('a b00tstrap'));
  await near.get(wanted, 1 << 20, never);
  objects.clear();
  await near.resolve(never);
  await near.get(wanted, 1, never);
  assert.deepEqual(far.asked, ['get', 'manifest', 'get']);
  await withNearby(far, async () => manifest, undefined).resolve(never);
  assert.equal(far.asked.at(-1), 'resolve', 'a tag means what the registry says');
});

test('others have their turn while a large object is verified', async () => {
  const large = Buffer.alloc(16 << 20, 'x');
  const near = withNearby(repository(), async () => large, undefined);
  let turns = 0;
  let counting = true;
  const count = () => {
    turns++;
    if (counting) setImmediate(count);
  };
  setImmediate(count);
  assert.equal(await near.get({ digest: digestOf(large), size: large.length }, large.length, never), large);
  counting = false;
  assert.ok(turns > 8, `${turns} turns`);
});
