import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseIndex } from '../../src/sources/descriptor.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { openFolder } from '../../src/sources/folder.ts';
import { openRepository } from '../../src/sources/open.ts';
import { type MadeLayout, madeBytes, makeLayout } from '../registry/layout.ts';
import { startRegistry } from '../registry/registry.ts';
import { collect, known, sourceSuite } from '../source-suite.ts';

let directory: string;
let layout: MadeLayout;
const never = new AbortController().signal;
const BOOTSTRAP = madeBytes(70_000, 9);

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-sources-'));
  layout = await makeLayout(join(directory, 'layout'), [3_000_000, 20_000]);
  await mkdir(join(directory, 'rafs/blobs'), { recursive: true });
  await writeFile(join(directory, 'rafs/bootstrap'), BOOTSTRAP);
  await writeFile(join(directory, 'rafs/blobs', 'ab'.repeat(32)), layout.blobs[0].bytes);
  await writeFile(join(directory, 'rafs/blobs/README'), 'not a blob');
});
after(() => rm(directory, { recursive: true, force: true }));

sourceSuite('registry', async () => {
  const registry = await startRegistry({ layouts: { app: layout.path } });
  return {
    repository: openRepository(`${registry.host}/app:latest`, { configDirs: [] }),
    large: layout.blobs[0],
    small: layout.blobs[1],
    manifest: layout.manifest,
    close: () => registry.close(),
  };
});

sourceSuite('registry with tokens and object storage', async () => {
  const registry = await startRegistry({
    layouts: { 'team/app': layout.path },
    faults: { auth: { kind: 'token' }, redirect: { uses: 3 } },
  });
  return {
    repository: openRepository(`${registry.host}/team/app@${layout.manifest.digest}`, { configDirs: [] }),
    large: layout.blobs[0],
    small: layout.blobs[1],
    manifest: layout.manifest,
    close: async () => {
      assert.equal(registry.stats.leaked, 0);
      assert.ok(registry.stats.storage > 0);
      await registry.close();
    },
  };
});

sourceSuite('layout', async () => ({
  repository: openRepository(`oci:${layout.path}:latest`),
  large: layout.blobs[0],
  small: layout.blobs[1],
  manifest: layout.manifest,
  close: async () => {},
}));

sourceSuite('folder', async () => {
  const repository = openRepository(`rafs:${join(directory, 'rafs')}`);
  return {
    repository,
    large: { digest: `sha256:${'ab'.repeat(32)}`, bytes: layout.blobs[0].bytes },
    small: { digest: sha256Digest(BOOTSTRAP), bytes: BOOTSTRAP },
    manifest: { digest: (await repository.resolve(never)).descriptor.digest },
    close: async () => {},
  };
});

test('a layout without a tag means its only manifest; tags that are not there are named', async () => {
  const only = await openRepository(`oci:${layout.path}`).resolve(never);
  assert.equal(only.descriptor.digest, layout.manifest.digest);
  const wrong = openRepository(`oci:${layout.path}:v2`).resolve(never);
  await assert.rejects(wrong, known({ code: 'not-found', hint: /latest/ }));
  const two = join(directory, 'two');
  await mkdir(two);
  const entry = { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: layout.manifest.digest, size: 5 };
  await writeFile(join(two, 'index.json'), JSON.stringify({ manifests: [entry, entry] }));
  await assert.rejects(openRepository(`oci:${two}`).resolve(never), known({ code: 'usage' }));
  await writeFile(join(two, 'index.json'), JSON.stringify({ manifests: [] }));
  await assert.rejects(openRepository(`oci:${two}`).resolve(never), known({ code: 'not-found' }));
  await assert.rejects(openRepository(`oci:${directory}/none`).resolve(never), known({ code: 'not-found' }));
});

test('a layout whose blob was changed or cut is noticed', async () => {
  const changed = await makeLayout(join(directory, 'changed'), [5000]);
  const [{ digest, bytes }] = changed.blobs;
  const file = join(changed.path, 'blobs/sha256', digest.slice(7));
  await writeFile(file, Buffer.from(bytes).fill(1, 0, 1));
  const repository = openRepository(`oci:${changed.path}`);
  await assert.rejects(repository.get({ digest, size: 5000 }, 1 << 20, never), known({ code: 'corrupt' }));
  await writeFile(file, bytes.subarray(0, 4999));
  await assert.rejects(repository.get({ digest, size: 5000 }, 1 << 20, never), known({ code: 'corrupt' }));
  await assert.rejects(
    repository.open({ digest, size: 5000 }).read(0, 5000, never),
    known({ code: 'source', retryable: false }),
  );
});

test('what is not a digest never becomes a path', async () => {
  const repository = openRepository(`oci:${layout.path}`);
  const digest = 'sha256:../../index.json' as `sha256:${string}`;
  await assert.rejects(repository.get({ digest, size: 10 }, 100, never), known({ code: 'internal' }));
  assert.throws(() => repository.open({ digest }), known({ code: 'internal' }));
  assert.throws(() => openFolder(directory).open('../bootstrap'), known({ code: 'internal' }));
});

test('a blob that is a directory or a device is not read', async () => {
  const odd = await makeLayout(join(directory, 'odd'), [10]);
  const blobs = join(odd.path, 'blobs/sha256');
  await mkdir(join(blobs, 'c'.repeat(64)));
  await symlink('/dev/zero', join(blobs, 'd'.repeat(64)));
  const repository = openRepository(`oci:${odd.path}`);
  for (const hex of ['c', 'd'])
    await assert.rejects(
      repository.open({ digest: `sha256:${hex.repeat(64)}` }).read(0, 1, never),
      known({ code: 'not-found' }),
    );
});

test('a folder lists its blobs, and its manifest follows its content', async () => {
  const path = join(directory, 'rafs');
  const folder = openFolder(path);
  assert.deepEqual(await folder.blobs(), [{ id: 'ab'.repeat(32), size: 3_000_000 }]);
  assert.deepEqual(await folder.bootstrap(), BOOTSTRAP);
  assert.deepEqual(
    await collect(await folder.open('ab'.repeat(32)).read(5, 10, never)),
    layout.blobs[0].bytes.subarray(5, 15),
  );
  const before = await openRepository(`rafs:${path}`).resolve(never);
  const { layers } = JSON.parse(Buffer.from(before.bytes).toString());
  assert.deepEqual(
    layers.map((layer: { digest: string; size: number }) => [layer.digest, layer.size]),
    [
      [`sha256:${'ab'.repeat(32)}`, 3_000_000],
      [sha256Digest(BOOTSTRAP), BOOTSTRAP.length],
    ],
  );
});

test('a folder without a bootstrap has it inside a blob; a change of the blob changes the manifest', async () => {
  const path = join(directory, 'inline');
  await mkdir(join(path, 'blobs'), { recursive: true });
  const blob = join(path, 'blobs', 'cd'.repeat(32));
  await writeFile(blob, madeBytes(100_000, 3));
  assert.equal(await openFolder(path).bootstrap(), undefined);
  const first = await openRepository(`rafs:${path}`).resolve(never);
  const second = await openRepository(`rafs:${path}`).resolve(never);
  assert.equal(first.descriptor.digest, second.descriptor.digest);
  await writeFile(blob, madeBytes(100_000, 4));
  const third = await openRepository(`rafs:${path}`).resolve(never);
  assert.notEqual(third.descriptor.digest, first.descriptor.digest);
});

test('a folder that is none says so', async () => {
  await assert.rejects(
    openFolder(join(directory, 'nothing')).bootstrap(),
    known({ code: 'not-found', hint: /bootstrap/ }),
  );
});

test('hostile indexes are refused', () => {
  const index = (value: unknown) => () => parseIndex(Buffer.from(JSON.stringify(value)), 'index');
  const good = { mediaType: 'x', digest: `sha256:${'a'.repeat(64)}`, size: 1 };
  assert.equal(index({ manifests: [good] })().length, 1);
  for (const entry of [
    null,
    [],
    { ...good, size: -1 },
    { ...good, size: 1.5 },
    { ...good, size: '1' },
    { ...good, size: 2 ** 60 },
    { ...good, digest: 'sha256:../../etc/passwd' },
    { ...good, digest: `sha256:${'A'.repeat(64)}` },
    { ...good, digest: undefined },
    { ...good, mediaType: 5 },
    { ...good, annotations: { a: 1 } },
    { ...good, annotations: 'x' },
  ])
    assert.throws(index({ manifests: [entry] }), known({ code: 'corrupt' }));
  assert.throws(
    index({ manifests: [{ ...good, digest: `sha512:${'a'.repeat(128)}` }] }),
    known({ code: 'unsupported' }),
  );
  assert.throws(index([]), known({ code: 'corrupt' }));
  assert.throws(index({ manifests: {} }), known({ code: 'corrupt' }));
  assert.throws(
    () => parseIndex(Buffer.from([0xff, 0xfe]), 'index'),
    known({ code: 'corrupt', message: /^index: document at byte 0/ }),
  );
  assert.throws(() => parseIndex(Buffer.alloc(5_000_000, 32), 'index'), known({ code: 'corrupt' }));
});
