/** Blobs whose chunks have no digests: what the cache keeps of them, and who gets to see it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { Cache, CachedBlob } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import { clearReady, countReady, setReady } from '../../src/cache/ready-map.ts';
import { artifactPlans } from '../../src/formats/artifact/manifest.ts';
import { blobOf } from '../../src/formats/files/blob.ts';
import { imageOfFiles } from '../../src/formats/files/image.ts';
import { listOfLayers } from '../../src/formats/files/layers.ts';
import { filesOfListing } from '../../src/formats/files/listing.ts';
import { modelPlans } from '../../src/formats/modelpack/manifest.ts';
import { type LayerPlan, objectOf } from '../../src/image/files.ts';
import { sha256Digest } from '../../src/sources/digest.ts';

const CONTENT = randomBytes((5 << 20) + 3);
const HEX = sha256Digest(CONTENT).slice('sha256:'.length);

function blobAt(place: string) {
  return blobOf(objectOf({ size: CONTENT.length, whole: { algorithm: 'sha256', hex: HEX }, place }));
}

function directory(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'nymph-standing-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function fill(cache: Cache, blob: CachedBlob): void {
  writeSync(blob.fd, CONTENT, 0, CONTENT.length, 0);
  setReady(blob.ready, 0, CONTENT.length);
  cache.changed(blob);
}

test('what was found right is right after a crash of the machine, though no bit was synced', async (t) => {
  const root = directory(t);
  let cache = await openCache(root, { bootId: 'one' });
  const blob = await cache.open(blobAt('a'));
  assert.equal(blob.standing, 'pending');
  fill(cache, blob);
  await cache.settle(blob, 'right');
  assert.equal(blob.standing, 'right');
  await cache.close();
  // As if no bit had reached the disk.
  rmSync(join(root, 'blobs', blob.key, 'ready'));
  cache = await openCache(root, { bootId: 'one' });
  assert.equal(await cache.reopen(blob.key), undefined, 'an entry without its bits is damaged');
  const anew = await cache.open(blobAt('a'));
  assert.deepEqual([anew.standing, countReady(anew.ready)], ['pending', 0]);
  await cache.close();
});

test('bits that no sync covered count after a crash of the machine only if the whole was found right', async (t) => {
  for (const standing of ['pending', 'right'] as const) {
    const root = directory(t);
    const first = await openCache(root, { bootId: 'one' });
    const blob = await first.open(blobAt('a'));
    fill(first, blob);
    if (standing === 'right') await first.settle(blob, 'right');
    await first.release(blob);
    await first.close();
    // What says that bits were synced is gone; what says that they were set is not.
    const path = join(root, 'blobs', blob.key, 'ready');
    const bytes = readFileSync(path);
    const pages = (bytes.length / 4096 - 1) / 2;
    writeFileSync(path, Buffer.concat([bytes.subarray(0, (1 + pages) * 4096), Buffer.alloc(pages * 4096)]));
    const second = await openCache(root, { bootId: 'two' });
    const again = await second.reopen(blob.key);
    assert.equal(again?.standing, standing);
    assert.equal(countReady(again!.ready), standing === 'right' ? Math.ceil(CONTENT.length / 4096) : 0);
    await second.close();
  }
});

test('a block that is cleared takes the whole’s standing with it, on the disk too', async (t) => {
  const root = directory(t);
  let cache = await openCache(root);
  const blob = await cache.open(blobAt('a'));
  fill(cache, blob);
  await cache.settle(blob, 'right');
  clearReady(blob.ready, 4096, 4096);
  assert.equal(blob.standing, 'pending');
  setReady(blob.ready, 4096, 4096);
  assert.equal(blob.standing, 'pending', 'what was fetched anew was not part of the check');
  cache.changed(blob);
  await cache.close();
  cache = await openCache(root);
  assert.equal((await cache.reopen(blob.key))?.standing, 'pending');
  await cache.close();
});

test('a wrong file leaves nothing on the disk, stays wrong for who has it, and is fetched anew by who comes later', async (t) => {
  const root = directory(t);
  let cache = await openCache(root);
  const blob = await cache.open(blobAt('a'));
  fill(cache, blob);
  await cache.settle(blob, 'wrong');
  assert.deepEqual([blob.standing, countReady(blob.ready)], ['wrong', 0]);
  assert.ok(readFileSync(blob.dataPath).every((byte) => byte === 0));
  await cache.close();
  cache = await openCache(root);
  const kept = await cache.reopen(blob.key);
  assert.equal(kept?.standing, 'wrong', 'a daemon that starts again serves nothing of it');
  const other = await cache.open(blobAt('a'));
  assert.deepEqual([other.key, other.standing], [`${HEX}~2`, 'pending']);
  await cache.release(kept!);
  await cache.release(other);
  assert.equal((await cache.open(blobAt('a'))).standing, 'pending');
  assert.equal(await cache.peek(HEX), undefined, 'the wrong one is gone');
  await cache.close();
});

test('unchecked bytes of one place are not shown to who trusts another; checked ones are', async (t) => {
  const cache = await openCache(directory(t));
  const blob = await cache.open(blobAt('evil.example/x'));
  fill(cache, blob);
  const other = await cache.open(blobAt('good.example/x'));
  assert.deepEqual([other.key, countReady(other.ready)], [`${HEX}~2`, 0]);
  assert.equal((await cache.open(blobAt('evil.example/x'))).key, HEX);
  await cache.settle(blob, 'right');
  assert.equal((await cache.open(blobAt('third.example/x'))).key, HEX);
  await cache.close();
});

test('a file is shared by all who have it checked: ModelPack, other artifacts, hubs', async (t) => {
  const cache = await openCache(directory(t));
  const digest = `sha256:${HEX}` as const;
  const layer = (path: string, more: Record<string, string> = {}) => ({
    ...{ mediaType: 'application/vnd.cncf.model.weight.v1.raw', digest, size: CONTENT.length },
    annotations: { [path]: 'weights.bin', ...more },
  });
  const crcs = JSON.stringify({ files: [{ file_path: 'weights.bin', chunk_crcs: '0x1a2b' }] });
  const listing = { path: 'weights.bin', size: CONTENT.length, digest, location: 'hf:/a/b/resolve/c/weights.bin' };
  const path = 'org.cncf.model.filepath';
  const listOf = (format: 'modelpack' | 'artifact', plans: LayerPlan[], place: string) =>
    listOfLayers(format, plans, new Map(), place);
  const lists = [
    listOf('modelpack', modelPlans([layer(path)]), 'one.example/model'),
    listOf('modelpack', modelPlans([layer(path, { 'org.cnai.nydus.crcs': crcs })]), 'crcs.example/model'),
    listOf('artifact', artifactPlans([layer('org.opencontainers.image.title')]), 'two.example/files'),
    filesOfListing(Buffer.from(JSON.stringify({ schemaVersion: 1, files: [listing] })), 'hf:https://hub.example', 'it'),
  ];
  const blobs = lists.map((list) => imageOfFiles(list, 'it').image.blobs[0]);
  const first = await cache.open(blobs[0]);
  fill(cache, first);
  await cache.settle(first, 'right');
  for (const blob of blobs) assert.equal((await cache.open(blob)).key, HEX);
  await cache.close();
});

test('the ledger keeps whole digests of every kind', async (t) => {
  const root = directory(t);
  const wholes = [
    undefined,
    { algorithm: 'git-sha1', hex: 'c0ffee'.padEnd(40, '0') },
    { algorithm: 'sha256', hex: HEX },
  ] as const;
  let cache = await openCache(root);
  const keys: string[] = [];
  for (const whole of wholes) {
    const object = objectOf({ size: CONTENT.length, place: 'hub', location: 'f', ...(whole && { whole }) });
    keys.push((await cache.open(blobOf(object))).key);
  }
  await cache.close();
  cache = await openCache(root);
  for (const [i, key] of keys.entries()) {
    const blob = await cache.reopen(key);
    assert.deepEqual([blob?.whole, blob?.digestAlgorithm, blob?.chunks.count], [wholes[i], 'none', 6]);
  }
  await cache.close();
});
