import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { NymphError } from '../../src/errors.ts';
import { OCI_MANIFEST } from '../../src/sources/descriptor.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { openRepository, openTarget } from '../../src/sources/open.ts';
import { parseReference } from '../../src/sources/reference.ts';
import { createRegistryNetwork } from '../../src/sources/registry/network.ts';
import type { Manifest } from '../../src/sources/source.ts';
import { type BlobToPut, bytesToPut, type Target } from '../../src/sources/target.ts';
import type { Faults } from '../registry/faults.ts';
import { madeBytes } from '../registry/layout.ts';
import { startRegistry } from '../registry/registry.ts';

const SIZE = 3_000_000;
const CONTENT = madeBytes(SIZE, 1);
const DIGEST = sha256Digest(CONTENT);
const never = new AbortController().signal;

async function scratch(t: TestContext): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), 'nymph-target-'));
  t.after(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

async function withRegistry(t: TestContext, faults: Faults = {}) {
  const directory = await scratch(t);
  const layouts = { app: join(directory, 'app'), other: join(directory, 'other') };
  for (const path of Object.values(layouts)) await mkdir(path);
  const registry = await startRegistry({ layouts, faults });
  const network = createRegistryNetwork({ plainHttp: [registry.host], configDirs: [] });
  t.after(async () => {
    await network.close();
    await registry.close();
  });
  const stored = (name: 'app' | 'other') => readFile(join(layouts[name], 'blobs/sha256', DIGEST.slice(7)));
  const open = (name: string): Target => openTarget(parseReference(`${registry.host}/${name}`), network);
  const read = (name: string) => openRepository(`${registry.host}/${name}`, { network });
  return { registry, stored, open, read };
}

/** Content in pieces, as a file gives them. */
function blob(fields: Partial<BlobToPut> = {}): BlobToPut {
  async function* pieces(offset: number): AsyncGenerator<Uint8Array> {
    for (let at = offset; at < SIZE; at += 100_000) yield CONTENT.subarray(at, Math.min(SIZE, at + 100_000));
  }
  return { digest: DIGEST, size: SIZE, read: async (offset) => pieces(offset), ...fields };
}

function manifestOf(fields: object): Manifest {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_MANIFEST, ...fields }));
  return { bytes, descriptor: { mediaType: OCI_MANIFEST, digest: sha256Digest(bytes), size: bytes.length } };
}

test('a blob is sent once, in one request, and told while it goes', async (t) => {
  const { registry, stored, open } = await withRegistry(t);
  const seen: number[] = [];
  assert.equal(await open('app').put(blob({ progress: (bytes) => seen.push(bytes) }), never), 'sent');
  assert.ok((await stored('app')).equals(CONTENT));
  assert.equal(seen.at(-1), SIZE);
  assert.ok(seen.every((bytes, i) => i === 0 || bytes >= seen[i - 1]));
  assert.deepEqual(
    registry.stats.log.map(({ method }) => method),
    ['HEAD', 'POST', 'PUT'],
  );
  assert.equal(await open('app').put(blob(), never), 'present');
  assert.equal(registry.stats.uploadBytes, SIZE);
  const empty = bytesToPut({ digest: sha256Digest(new Uint8Array()), size: 0 }, new Uint8Array());
  assert.equal(await open('app').put(empty, never), 'sent');
});

test('after cuts it goes on where it ended: nothing is sent twice', async (t) => {
  const { registry, stored, open } = await withRegistry(t, {
    upload: { kind: 'cut', after: 900_000, keeps: true, times: 3 },
  });
  assert.equal(await open('app').put(blob(), never), 'sent');
  assert.ok((await stored('app')).equals(CONTENT));
  assert.equal(registry.stats.uploadBytes, SIZE);
  assert.equal(registry.stats.uploads, 1);
});

test('an upload that the registry has forgotten begins anew', async (t) => {
  const { registry, stored, open } = await withRegistry(t, {
    upload: { kind: 'cut', after: 900_000, keeps: false, times: 2 },
  });
  assert.equal(await open('app').put(blob(), never), 'sent');
  assert.ok((await stored('app')).equals(CONTENT));
  assert.equal(registry.stats.uploads, 3);
});

test('requests that are too large for a proxy are made smaller', async (t) => {
  const content = madeBytes(40 << 20, 2);
  const digest = sha256Digest(content);
  const { registry, open, read } = await withRegistry(t, { upload: { kind: 'too-large', most: 20 << 20 } });
  assert.equal(await open('app').put(bytesToPut({ digest, size: content.length }, content), never), 'sent');
  assert.equal(registry.stats.log.filter(({ method }) => method === 'PATCH').length, 3);
  const bytes = await read('app').get({ digest, size: content.length }, content.length, never);
  assert.ok(content.equals(bytes));
});

test('a blob that another repository of the registry has is not sent', async (t) => {
  const { registry, stored, open } = await withRegistry(t);
  await open('other').put(blob(), never);
  assert.equal(await open('app').put(blob({ from: 'other' }), never), 'mounted');
  assert.ok((await stored('app')).equals(CONTENT));
  assert.equal(registry.stats.uploadBytes, SIZE);
  // One that it has not after all is sent.
  const content = Buffer.from('elsewhere');
  const put = bytesToPut({ digest: sha256Digest(content), size: content.length }, content);
  assert.equal(await open('app').put({ ...put, from: 'other' }, never), 'sent');
});

test('pushing gets a token of its own, with the right to push', async (t) => {
  const { registry, open, read } = await withRegistry(t, { auth: { kind: 'token', forbids: true } });
  await assert.rejects(read('app').resolve(never), (error: NymphError) => error.code === 'not-found');
  assert.equal(await open('app').put(blob(), never), 'sent');
  assert.equal(registry.stats.tokens, 2);
});

test('what is wrong with the content is the registry’s last word', async (t) => {
  const { registry, open } = await withRegistry(t);
  const wrong = bytesToPut({ digest: DIGEST, size: 5 }, Buffer.from('wrong'));
  await assert.rejects(open('app').put(wrong, never), /DIGEST_INVALID/);
  assert.equal(registry.stats.uploads, 1);
  const controller = new AbortController();
  const stopped = blob({ progress: () => controller.abort() });
  await assert.rejects(open('app').put(stopped, controller.signal), (error: NymphError) => error.code === 'cancelled');
});

for (const referrers of [undefined, 'absent'] as const)
  test(`manifests that refer to another are found from it${referrers ? ', by a tag too' : ''}`, async (t) => {
    const { open, read } = await withRegistry(t, referrers ? { referrers } : {});
    const target = open('app:1');
    const ordinary = manifestOf({ layers: [] });
    await target.putManifest(ordinary, { tag: '1' }, never);
    assert.deepEqual(await read('app:1').referrers!(ordinary.descriptor.digest, never), []);
    const { mediaType, digest, size } = ordinary.descriptor;
    const subject = { mediaType, digest, size };
    for (const [i, artifactType] of ['a/b', 'c/d', 'a/b'].entries()) {
      const one = manifestOf({ layers: [], subject, artifactType, annotations: { number: String(i % 2) } });
      one.descriptor.artifactType = artifactType;
      await target.putManifest(one, { subject: digest }, never);
    }
    const found = await read('app:1').referrers!(digest, never);
    assert.deepEqual(found.map((entry) => entry.artifactType).sort(), ['a/b', 'c/d']);
    assert.equal((await read('app:1').resolve(never)).descriptor.digest, digest);
  });

test('an OCI layout takes blobs, tags and referrers', async (t) => {
  const directory = await scratch(t);
  const path = join(directory, 'layout');
  const target = openTarget(parseReference(`oci:${path}:x`), createRegistryNetwork());
  assert.equal(await target.put(blob(), never), 'sent');
  assert.equal(await target.put(blob(), never), 'present');
  const wrong = bytesToPut({ digest: sha256Digest(Buffer.from('right')), size: 5 }, Buffer.from('wrong'));
  await assert.rejects(target.put(wrong, never), (error: NymphError) => error.code === 'corrupt');
  const first = manifestOf({ layers: [] });
  const second = manifestOf({ layers: [], annotations: { a: 'b' } });
  await target.putManifest(first, { tag: 'one' }, never);
  await target.putManifest(second, { tag: 'two' }, never);
  await target.putManifest(second, { tag: 'one' }, never);
  const { mediaType, digest, size } = second.descriptor;
  const referrer = manifestOf({ layers: [], subject: { mediaType, digest, size } });
  for (let i = 0; i < 2; i++) await target.putManifest(referrer, { subject: digest }, never);
  const one = openRepository(`oci:${path}:one`);
  assert.equal((await one.resolve(never)).descriptor.digest, digest);
  assert.deepEqual(
    (await one.referrers!(digest, never)).map((entry) => entry.digest),
    [referrer.descriptor.digest],
  );
  const { manifests } = JSON.parse(await readFile(join(path, 'index.json'), 'utf8'));
  assert.equal(manifests.length, 3);
  const left = (await readdir(path, { recursive: true })).filter((name) => name.includes('tmp'));
  assert.deepEqual(left, []);
});
