import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { chooseImage } from '../../src/mount/choose.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../../src/sources/descriptor.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { openRepository } from '../../src/sources/open.ts';
import { NYDUS_ARTIFACT } from '../../src/sources/platform.ts';
import { createRegistryNetwork } from '../../src/sources/registry/network.ts';
import type { Descriptor } from '../../src/sources/source.ts';
import { startRegistry } from '../registry/registry.ts';

const never = new AbortController().signal;
const layer = (fields: object = {}) => ({
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  digest: sha256Digest(Buffer.from('layer')),
  size: 5,
  ...fields,
});
const BOOTSTRAP = layer({ annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' } });
const platform = { os: 'linux', architecture: 'amd64' };

/** A registry that manifests can be put to by plain requests. */
async function withRegistry(t: TestContext) {
  const directory = await mkdtemp(join(tmpdir(), 'nymph-choose-'));
  await mkdir(join(directory, 'app'));
  const registry = await startRegistry({ layouts: { app: join(directory, 'app') } });
  const network = createRegistryNetwork({ plainHttp: [registry.host], configDirs: [] });
  t.after(async () => {
    await network.close();
    await registry.close();
    await rm(directory, { recursive: true, force: true });
  });
  const put = async (fields: object, tag?: string, mediaType = OCI_MANIFEST): Promise<Descriptor> => {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, ...fields }));
    const digest = sha256Digest(bytes);
    const url = `${registry.url}/v2/app/manifests/${tag ?? digest}`;
    const response = await fetch(url, { method: 'PUT', body: bytes, headers: { 'content-type': mediaType } });
    assert.equal(response.status, 201, await response.text());
    return { mediaType, digest, size: bytes.length };
  };
  const choose = (name: string, pinned = false) =>
    chooseImage(openRepository(`${registry.host}/app${name}`, { network }), 'linux/amd64', pinned, never);
  return { put, choose };
}

test('an ordinary image leads to the Nydus image that refers to it, unless a digest was named', async (t) => {
  const { put, choose } = await withRegistry(t);
  const subject = await put({ layers: [layer()] }, '1');
  assert.deepEqual((await choose(':1')).manifest.descriptor.digest, subject.digest);
  const sbom = await put({ layers: [layer()], subject, artifactType: 'application/spdx+json' });
  const nydus = await put({ layers: [layer(), BOOTSTRAP], subject, artifactType: NYDUS_ARTIFACT });
  assert.notEqual(sbom.digest, nydus.digest);
  const chosen = await choose(':1');
  assert.equal(chosen.manifest.descriptor.digest, nydus.digest);
  assert.deepEqual(chosen.choice, { by: 'referrer', ordinary: subject.digest });
  const pinned = await choose(`@${subject.digest}`, true);
  assert.deepEqual([pinned.manifest.descriptor.digest, pinned.choice], [subject.digest, undefined]);
  const named = await choose(`@${nydus.digest}`, true);
  assert.deepEqual([named.manifest.descriptor.digest, named.choice], [nydus.digest, undefined]);
});

test('what says that it is Nydus and is not, is passed over; one without the mark counts', async (t) => {
  const { put, choose } = await withRegistry(t);
  const subject = await put({ layers: [layer()] }, '1');
  for (let i = 0; i < 3; i++)
    await put({ layers: [layer()], subject, artifactType: NYDUS_ARTIFACT, annotations: { i: String(i) } });
  const old = await put({ layers: [BOOTSTRAP], subject });
  assert.equal((await choose(':1')).manifest.descriptor.digest, old.digest);
});

test('an index with both gives the Nydus one, by either mark, and tells the other', async (t) => {
  const { put, choose } = await withRegistry(t);
  const ordinary = { ...(await put({ layers: [layer()] })), platform };
  const nydus = await put({ layers: [layer(), BOOTSTRAP] });
  const arm = { ...ordinary, platform: { os: 'linux', architecture: 'arm64' } };
  const marks = [
    { ...nydus, platform: { ...platform, 'os.features': ['nydus.remoteimage.v1'] } },
    { ...nydus, platform, artifactType: NYDUS_ARTIFACT },
  ];
  for (const marked of marks) {
    await put({ manifests: [arm, ordinary, marked] }, 'both', OCI_INDEX);
    const chosen = await choose(':both');
    assert.equal(chosen.manifest.descriptor.digest, nydus.digest);
    assert.deepEqual(chosen.choice, { by: 'index', ordinary: ordinary.digest });
  }
  await put({ manifests: [marks[0]] }, 'alone', OCI_INDEX);
  assert.equal((await choose(':alone')).choice, undefined);
  // Ordinary in the index, and a referrer of it.
  const referrer = await put({
    layers: [layer({ size: 6 }), BOOTSTRAP],
    subject: { ...ordinary, platform: undefined },
  });
  await put({ manifests: [ordinary] }, 'ordinary', OCI_INDEX);
  assert.equal((await choose(':ordinary')).manifest.descriptor.digest, referrer.digest);
});
