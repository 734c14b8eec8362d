/** What a pull into containerd is made of: labels, chain ids, and which image of an index the record may name. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { createFetches } from '../../src/containerd/fetches.ts';
import { chainIds, readImage } from '../../src/containerd/image.ts';
import { snapshotLabels, sourceLabels } from '../../src/containerd/labels.ts';
import type { Session } from '../../src/containerd/session.ts';
import { unpackLayer } from '../../src/containerd/unpack.ts';
import { NymphError } from '../../src/errors.ts';
import { openRepository } from '../../src/sources/open.ts';
import { makePlainImage } from '../plain-image.ts';

const digest = (text: string): `sha256:${string}` => `sha256:${createHash('sha256').update(text).digest('hex')}`;
const layersOf = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ mediaType: 'l', digest: digest(`layer ${i}`), size: i }));

describe('labels', () => {
  test('a snapshot is told of its image and of the layers from its own upwards, as far as 4096 bytes go', () => {
    const layers = layersOf(100);
    const context = { reference: 'registry.example/app:1', manifestDigest: digest('manifest'), layers };
    const labels = snapshotLabels(context, 3, digest('chain'));
    const key = 'containerd.io/snapshot/cri.image-layers';
    const listed = labels[key].split(',');
    assert.deepEqual(
      listed,
      layers.slice(3, 3 + listed.length).map((layer) => layer.digest),
    );
    // 71 characters and a comma each.
    assert.equal(listed.length, Math.floor((4096 - key.length + 1) / 72));
    assert.deepEqual(
      { ...labels, [key]: '' },
      {
        'containerd.io/snapshot.ref': digest('chain'),
        'containerd.io/snapshot/cri.image-ref': 'registry.example/app:1',
        'containerd.io/snapshot/cri.manifest-digest': digest('manifest'),
        'containerd.io/snapshot/cri.layer-digest': layers[3].digest,
        [key]: '',
      },
    );
  });

  test('a snapshot inherits the annotations of its layer that are meant for it, and no others', () => {
    const annotations = { 'containerd.io/snapshot/nydus-blob': 'true', 'org.example': 'x' };
    const layers = [{ ...layersOf(1)[0], annotations }];
    const labels = snapshotLabels({ reference: 'r', manifestDigest: digest('m'), layers }, 0, digest('c'));
    assert.equal(labels['containerd.io/snapshot/nydus-blob'], 'true');
    assert.ok(!('org.example' in labels));
  });

  test('repositories of one host share a label, which has no port, and is left out when it gets too long', () => {
    const key = 'containerd.io/distribution.source.registry.example';
    assert.deepEqual(sourceLabels('registry.example:5000', 'b', {}), { [key]: 'b' });
    assert.deepEqual(sourceLabels('registry.example', 'b', { [key]: 'a,b,c' }), { [key]: 'a,b,c' });
    assert.deepEqual(sourceLabels('registry.example', 'a', { [key]: 'b' }), { [key]: 'a,b' });
    assert.deepEqual(sourceLabels('registry.example', 'a', { [key]: 'b'.repeat(4096 - key.length) }), {});
    assert.deepEqual(sourceLabels('[::1]:5000', 'a', {}), { 'containerd.io/distribution.source.::1': 'a' });
  });

  test('chain ids are those of the image specification', () => {
    const [a, b, c] = ['a', 'b', 'c'].map(digest);
    const ab = digest(`${a} ${b}`);
    assert.deepEqual(chainIds([a, b, c]), [a, ab, digest(`${ab} ${c}`)]);
  });
});

describe('images', () => {
  const signal = new AbortController().signal;

  interface Manifest {
    mediaType: string;
    config: object;
    layers: object[];
  }

  /** Puts an image into a layout, and changes its manifest. @returns the new manifest's descriptor */
  function putChanged(directory: string, name: string, change: (manifest: Manifest) => void) {
    const blob = (of: string) => join(directory, 'blobs', 'sha256', of.slice('sha256:'.length));
    const manifest = JSON.parse(readFileSync(blob(makePlainImage(directory, name, { name })), 'utf8')) as Manifest;
    change(manifest);
    const text = JSON.stringify(manifest);
    writeFileSync(blob(digest(text)), text);
    return { mediaType: manifest.mediaType, digest: digest(text), size: text.length };
  }

  function layout(t: TestContext): string {
    const directory = mkdtempSync(join(tmpdir(), 'nymph-rpull-'));
    t.after(() => rmSync(directory, { recursive: true }));
    return directory;
  }

  /** Makes `tag` the only one of a layout. */
  function tag(directory: string, name: string, entry: object): void {
    const annotations = { 'org.opencontainers.image.ref.name': name };
    writeFileSync(
      join(directory, 'index.json'),
      JSON.stringify({ schemaVersion: 2, manifests: [{ ...entry, annotations }] }),
    );
  }

  /** An ordinary image, a Nydus image, and an index of both. */
  function layoutWithIndex(t: TestContext, entries: (plain: object, nydus: object) => object[]) {
    const directory = layout(t);
    const platform = { os: 'linux', architecture: 'amd64' };
    const plain = { ...putChanged(directory, 'plain', () => {}), platform };
    const nydus = {
      ...putChanged(directory, 'nydus', ({ layers }) =>
        Object.assign(layers[0], { annotations: { 'containerd.io/snapshot/nydus-bootstrap': 'true' } }),
      ),
      platform: { ...platform, 'os.features': ['nydus.remoteimage.v1'] },
    };
    const mediaType = 'application/vnd.oci.image.index.v1+json';
    const index = JSON.stringify({ schemaVersion: 2, mediaType, manifests: entries(plain, nydus) });
    writeFileSync(join(directory, 'blobs', 'sha256', digest(index).slice('sha256:'.length)), index);
    tag(directory, 'both', { mediaType, digest: digest(index), size: index.length });
    const read = (lazily: boolean) =>
      readImage(openRepository(`oci:${directory}:both`), 'linux/amd64', { lazily, pinned: false }, signal);
    return { read, index: digest(index), plain: plain.digest, nydus: nydus.digest };
  }

  test('where containerd would choose another image of the index, the record names the manifest', async (t) => {
    const { read, index, plain, nydus } = layoutWithIndex(t, (one, other) => [one, other]);
    const lazy = await read(true);
    assert.deepEqual([lazy.target.digest, lazy.manifest.descriptor.digest, lazy.index], [nydus, nydus, undefined]);
    const usual = await read(false);
    assert.deepEqual([usual.target.digest, usual.manifest.descriptor.digest], [index, plain]);
    assert.equal(usual.index?.descriptor.digest, index);
  });

  test('where there is nothing to choose, the record names the index', async (t) => {
    const { read, index, nydus } = layoutWithIndex(t, (_plain, other) => [other]);
    const image = await read(true);
    assert.deepEqual([image.target.digest, image.manifest.descriptor.digest], [index, nydus]);
  });

  /** The image of a layout whose manifest was changed. */
  function changed(t: TestContext, change: (manifest: Manifest) => void) {
    const directory = layout(t);
    tag(directory, 'app', putChanged(directory, 'app', change));
    return readImage(openRepository(`oci:${directory}:app`), undefined, { lazily: true, pinned: false }, signal);
  }

  test('what containerd cannot unpack is refused before anything is stored', async (t) => {
    const model = 'application/vnd.cncf.model.config.v1+json';
    await assert.rejects(
      changed(t, (manifest) => Object.assign(manifest.config, { mediaType: model })),
      { code: 'unsupported', message: /no container image: its configuration is application\/vnd\.cncf\.model/ },
    );
    await assert.rejects(
      changed(t, (manifest) => Object.assign(manifest.layers[0], { mediaType: 'text/plain' })),
      { code: 'unsupported', message: /a layer of type text\/plain/ },
    );
    await assert.rejects(
      changed(t, (manifest) => void manifest.layers.pop()),
      { code: 'unsupported', message: /no layers/ },
    );
    await assert.rejects(
      changed(t, (manifest) => void manifest.layers.push(manifest.layers[0])),
      { code: 'corrupt', message: /diff_ids.*1 for 2 layers/ },
    );
  });
});

describe('fetches of layers', () => {
  test('begin with the first that is asked for, three at once, and each blob once', async () => {
    const layers = [...layersOf(6), layersOf(3)[2]];
    const begun: number[] = [];
    const ends: (() => void)[] = [];
    const fetches = createFetches(layers, (i) => {
      begun.push(i);
      return new Promise((resolve) => (ends[i] = resolve));
    });
    const first = fetches.fetched(1);
    await new Promise(setImmediate);
    assert.deepEqual(begun, [1, 2, 3]);
    ends[2]();
    await fetches.fetched(2);
    await fetches.fetched(6);
    assert.deepEqual(begun, [1, 2, 3, 5], 'layer 6 is the blob of layer 2');
    for (const i of [1, 3, 5]) ends[i]();
    await first;
    await new Promise(setImmediate);
    ends[4]();
    await fetches.settled();
  });

  test('one that fails is told to whoever waits for another', async () => {
    const layers = layersOf(3);
    const fetches = createFetches(layers, (i) => (i === 2 ? Promise.reject(new Error('cut')) : new Promise(() => {})));
    await assert.rejects(fetches.fetched(0), /cut/);
  });
});

test('a snapshotter that is started again is waited for, whatever it is asked', async () => {
  const calls: string[] = [];
  const refused = Object.assign(new Error(), { code: 14 });
  const session = {
    signal: new AbortController().signal,
    holdSnapshot: async () => {},
    async call(_service: string, method: string) {
      calls.push(method);
      if (calls.length === 1)
        throw new NymphError('daemon', 'containerd, Snapshots Stat: connection error: refused', { cause: refused });
      return { info: { labels: { 'containerd.io/snapshot/nymph.lazy': 'true' } } };
    },
  } as unknown as Session;
  const chainId = `sha256:${'1'.repeat(64)}` as const;
  const descriptor = { mediaType: '', digest: chainId, size: 1 };
  const layer = { descriptor, diffId: chainId, chainId, parent: undefined, labels: {} };
  const nobody = () => assert.fail('nothing is to be fetched');
  assert.deepEqual(await unpackLayer(session, { name: 'nymph', remote: true }, layer, nobody), { state: 'lazy' });
  assert.deepEqual(calls, ['Stat', 'Stat']);
});
