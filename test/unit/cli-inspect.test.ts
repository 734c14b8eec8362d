import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { APP_LAYOUT, unpackKinds } from '../fixtures.ts';
import { nymph, scratch } from './cli-daemon.ts';

const APP = `oci:${APP_LAYOUT}:nydus`;
const DIGEST = 'sha256:16788de380486c09aad72b23e07787758a18abe145637144fb8f09cce8c01663';

/** An ordinary image, in an OCI layout without tag. */
async function writeOrdinaryImage(directory: string): Promise<void> {
  await mkdir(join(directory, 'blobs/sha256'), { recursive: true });
  const put = async (mediaType: string, content: string) => {
    const hex = createHash('sha256').update(content).digest('hex');
    await writeFile(join(directory, 'blobs/sha256', hex), content);
    return { mediaType, digest: `sha256:${hex}`, size: content.length };
  };
  const type = 'application/vnd.oci.image.manifest.v1+json';
  const config = await put('application/vnd.oci.image.config.v1+json', '{"os":"linux","architecture":"amd64"}');
  const layers = [await put('application/vnd.oci.image.layer.v1.tar', '')];
  const manifest = await put(type, JSON.stringify({ schemaVersion: 2, mediaType: type, config, layers }));
  await writeFile(join(directory, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  await writeFile(join(directory, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [manifest] }));
}

test('inspect tells what the image is made of, for people and for programs', async () => {
  const json = await nymph(['inspect', APP, '--json']);
  assert.deepEqual({ status: json.status, err: json.err }, { status: 0, err: '' });
  const document = JSON.parse(json.out);
  assert.equal(document.reference, APP);
  assert.equal(document.digest, DIGEST);
  assert.equal(document.format, 'RAFS v6');
  assert.deepEqual(
    document.layers.map((layer: { role: string }) => layer.role),
    ['blob', 'blob', 'bootstrap'],
  );
  assert.equal(document.bootstrap.counts.inodes, document.totals.inodes);
  assert.deepEqual(document.integrity.verifiable, true);
  let [chunks, storedSize] = [0, 0];
  for (const blob of document.blobs) {
    chunks += blob.chunks;
    storedSize += blob.storedSize;
    const frames = Object.values(blob.codecs as Record<string, number>).reduce((sum, number) => sum + number, 0);
    assert.equal(frames, blob.frames);
    const layer = document.layers.find((one: { digest: string }) => one.digest === blob.digest);
    assert.equal(layer.size, blob.storedSize);
  }
  assert.deepEqual([chunks, storedSize], [document.totals.chunks, document.totals.storedSize]);

  const { out } = await nymph(['inspect', APP]);
  assert.match(out, new RegExp(`^digest: +${DIGEST}$`, 'm'));
  assert.match(
    out,
    /^integrity: +Every chunk has a blake3 digest in the bootstrap and is verified before a byte of it is served\./m,
  );
  for (const blob of document.blobs) assert.match(out, new RegExp(`^${blob.id} .* blake3 `, 'm'));
});

test('run-check says lazy, with status 0', async () => {
  const human = await nymph(['run-check', APP]);
  assert.deepEqual(human, { status: 0, out: 'lazy: Nydus image (RAFS v6), 2 blobs, every chunk verified\n', err: '' });
  const json = JSON.parse((await nymph(['run-check', APP, '--json'])).out);
  assert.deepEqual(json, {
    reference: APP,
    lazy: true,
    reason: 'Nydus image (RAFS v6), 2 blobs, every chunk verified',
  });
});

test('run-check says why an image is not lazy, with status 6', async (t) => {
  const directory = await scratch(t);
  await writeOrdinaryImage(directory);
  const ordinary = await nymph(['run-check', `oci:${directory}`]);
  assert.deepEqual({ status: ordinary.status, err: ordinary.err }, { status: 6, err: '' });
  assert.match(ordinary.out, /^not lazy: .*nydus.*nymph convert/i);
  const json = await nymph(['run-check', `oci:${directory}`, '--json']);
  assert.equal(json.status, 6);
  assert.equal(JSON.parse(json.out).lazy, false);
  assert.equal((await nymph(['inspect', `oci:${directory}`])).status, 6);
});

test('run-check says what is particular about blobs', async (t) => {
  const kinds = unpackKinds(join(await scratch(t), 'kinds'));
  const encrypted = await nymph(['run-check', `rafs:${dirname(kinds.encryptedBootstrap)}`]);
  assert.equal(encrypted.status, 0, encrypted.err);
  assert.match(encrypted.out, /^lazy: .*1 blob \(encrypted\)/);
  const batches = await nymph(['run-check', `rafs:${dirname(kinds.bootstrap)}`]);
  assert.match(batches.out, /^lazy: .*1 blob \(batch\)/);
});

test('an image that is not there is no answer about laziness', async (t) => {
  const directory = await scratch(t);
  const { status, out, err } = await nymph(['run-check', `oci:${directory}/none`]);
  assert.deepEqual({ status, out }, { status: 3, out: '' });
  assert.match(err, /^nymph: /);
});
