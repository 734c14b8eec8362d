import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { treeFiles } from '../../src/cli/tree-files.ts';
import { artifactPlans, isFilesArtifact } from '../../src/formats/artifact/manifest.ts';
import { imageOfFiles } from '../../src/formats/files/image.ts';
import { listOfLayers } from '../../src/formats/files/layers.ts';
import { isModelPack, modelPlans } from '../../src/formats/modelpack/manifest.ts';
import { encodingOf, kindOf } from '../../src/formats/modelpack/media-types.ts';
import { fileMetadata } from '../../src/formats/modelpack/metadata.ts';
import type { Layer, LayerPlan } from '../../src/image/files.ts';
import type { OciDigest } from '../../src/image/image.ts';

const PLACE = 'registry.example/models/tiny';
const METADATA = 'org.cncf.model.file.metadata+json';

function layer(path: string, more: Partial<Layer> & { seed?: number } = {}): Layer {
  const { seed = 1, ...fields } = more;
  return {
    mediaType: 'application/vnd.cncf.model.weight.v1.raw',
    digest: `sha256:${seed.toString(16).padStart(64, '0')}`,
    size: 10,
    annotations: { 'org.cncf.model.filepath': path },
    ...fields,
  };
}

const listOf = (plans: LayerPlan[], place = PLACE) => listOfLayers('modelpack', plans, new Map(), place);
const imageOf = (...layers: Layer[]) => imageOfFiles(listOf(modelPlans(layers)), 'a manifest');
const pathsOf = (...layers: Layer[]) => treeFiles(imageOf(...layers).bootstrap, true).map(({ path }) => path);

describe('ModelPack', () => {
  test('is told by its artifact type, its config, or its layers, under its old name too', () => {
    const layers = [layer('a', { mediaType: 'application/vnd.oci.image.layer.v1.tar' })];
    assert.ok(isModelPack({ artifactType: 'application/vnd.cncf.model.manifest.v1+json', layers }));
    assert.ok(isModelPack({ artifactType: 'application/vnd.cnai.model.manifest.v1+json', layers }));
    assert.ok(isModelPack({ configType: 'application/vnd.cnai.model.config.v1+json', layers }));
    assert.ok(isModelPack({ layers: [layer('a')] }));
    assert.ok(!isModelPack({ artifactType: 'x', configType: 'application/vnd.oci.image.config.v1+json', layers }));
  });

  test('the encoding of a layer is what stands behind the last v1.', () => {
    const prefix = 'application/vnd.cncf.model.';
    for (const [type, encoding, kind] of [
      ['weight.v1.raw', 'raw', 'weight'],
      ['weight.v1.tar', 'none', 'weight'],
      ['weight.config.v1.tar+gzip', 'gzip', 'weight.config'],
      ['dataset.v1.tar+zstd', 'zstd', 'dataset'],
      ['weight.v1.gguf', 'raw', 'weight'],
      ['weight.v1.safetensors', 'raw', 'weight'],
      ['weight.code.v1.raw', 'raw', 'weight.code'],
    ])
      assert.deepEqual([encodingOf(prefix + type), kindOf(prefix + type)], [encoding, kind], type);
  });

  test('each raw layer is a file at offset 0 of its blob, with the size of the blob to the byte', () => {
    const { image, bootstrap, paths } = imageOf(
      layer('config.json', { size: 700, seed: 1 }),
      layer('deep/er/model.safetensors', { size: 5_000_001, seed: 2 }),
      layer('empty', { size: 0, seed: 3 }),
    );
    assert.deepEqual(
      image.blobs.map(({ id, size, digestAlgorithm, whole }) => [id.at(-1), size, digestAlgorithm, whole?.hex.at(-1)]),
      [
        ['1', 700, 'sha256', undefined],
        ['2', 5_000_001, 'none', '2'],
      ],
    );
    assert.deepEqual(paths, ['config.json', 'deep/er/model.safetensors']);
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ path, type, size, blob }) => [path, type, size, blob]),
      [
        ['config.json', 'file', 700, 0],
        ['deep', 'directory', 0, undefined],
        ['deep/er', 'directory', 0, undefined],
        ['deep/er/model.safetensors', 'file', 5_000_001, 1],
        ['empty', 'file', 0, undefined],
      ],
    );
  });

  test('sizes above 40 GB and above 2^42 bytes are exact', () => {
    for (const size of [48_123_456_789, 2 ** 42 + 12_345]) {
      const { image, bootstrap } = imageOf(layer('big', { size }));
      const [{ chunks, frames }] = image.blobs;
      const last = chunks.count - 1;
      assert.equal(chunks.offset[last] + chunks.size[last], size);
      assert.equal(frames.offset[last] + frames.size[last], size);
      assert.equal(treeFiles(bootstrap, true)[0].size, size);
    }
  });

  test('sizes that cannot be, or contradict each other, are refused', () => {
    assert.throws(() => imageOf(layer('big', { size: 2 ** 43 + 1 })), { code: 'unsupported', message: /8 TiB/ });
    assert.throws(() => imageOf(layer('a', { size: 1 }), layer('b', { size: 2 })), { code: 'corrupt' });
  });

  test('metadata give mode and time; what is wrong in them is left out', () => {
    const of = (value: unknown) =>
      fileMetadata({ [METADATA]: typeof value === 'string' ? value : JSON.stringify(value) });
    const time = of({ mode: 0o755, mtime: '2025-11-10T09:08:07.123456789+02:00', typeflag: 48, name: 'x', size: 7 });
    assert.deepEqual(time, {
      name: 'x',
      mode: 0o755,
      size: 7,
      mtime: Date.UTC(2025, 10, 10, 7, 8, 7) / 1000,
      mtimeNs: 123456789,
      type: 'file',
    });
    assert.deepEqual(of({ mtime: '2025-11-10T09:08:07Z', typeflag: 5 }), {
      mtime: Date.UTC(2025, 10, 10, 9, 8, 7) / 1000,
      mtimeNs: 0,
      type: 'directory',
    });
    for (const wrong of [
      '{',
      '[]',
      'null',
      '"x"',
      { mode: -1 },
      { mode: 'rwx' },
      { mtime: 'yesterday' },
      { typeflag: 99 },
    ])
      assert.deepEqual(of(wrong), {}, JSON.stringify(wrong));
    for (const key of ['org.cnai.model.file.metadata+json', 'org.cnai.model.file.metadata'])
      assert.deepEqual(fileMetadata({ [key]: '{"mode":420}' }), { mode: 0o644 });
  });

  test('the path comes from the new key, the old one, the title, the name or the digest', () => {
    const path = (annotations: Record<string, string> | undefined) => pathsOf(layer('', { annotations }))[0];
    const old = { 'org.cnai.model.filepath': 'old' };
    const title = { 'org.opencontainers.image.title': 'title' };
    const name = { [METADATA]: '{"name":"name"}' };
    assert.equal(path({ 'org.cncf.model.filepath': 'new', ...old, ...title, ...name }), 'new');
    assert.equal(path({ ...old, ...title, ...name }), 'old');
    assert.equal(path({ ...title, ...name }), 'title');
    assert.equal(path(name), 'name');
    assert.equal(path(undefined), '1'.padStart(64, '0'));
  });

  test('no path leads out of the tree', () => {
    for (const path of [
      '/etc/passwd',
      '../x',
      'a/../../x',
      'a/..',
      '',
      '.',
      './',
      'C:\\x',
      '\\\\host\\x',
      'a\0b',
      'x'.repeat(256),
    ])
      assert.throws(() => imageOf(layer(path)), { code: 'corrupt' }, JSON.stringify(path));
    assert.deepEqual(pathsOf(layer('./a//b/./c')), ['a', 'a/b', 'a/b/c']);
    assert.deepEqual(pathsOf(layer('a\\b..c')), ['a\\b..c']);
  });

  test('of two layers for one path the later counts; what is file and directory is refused', () => {
    const { image, bootstrap, warnings } = imageOf(layer('a', { seed: 1, size: 3 }), layer('a', { seed: 2, size: 4 }));
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ path, size, blob }) => [path, size, blob]),
      [['a', 4, 1]],
    );
    assert.match(warnings.join(), /a is there twice/);
    assert.equal(image.blobs.length, 2);
    for (const paths of [
      ['a', 'a/b'],
      ['a/b', 'a'],
    ])
      assert.throws(() => imageOf(...paths.map((path) => layer(path))), { code: 'corrupt' }, paths.join());
  });

  test('the same bytes under two names are one blob', () => {
    const { image, bootstrap } = imageOf(layer('a'), layer('b'));
    assert.equal(image.blobs.length, 1);
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ blob }) => blob),
      [0, 0],
    );
  });

  test('two thousand files are two thousand blobs, each named by its own chunk address', () => {
    const layers = Array.from({ length: 2048 }, (_, i) => layer(`f${i}`, { seed: i + 1 }));
    const { image, bootstrap } = imageOf(...layers);
    assert.equal(image.blobs.length, 2048);
    for (const { path, blob } of treeFiles(bootstrap, true)) assert.equal(path, `f${blob}`);
  });

  test('the place decides whose unchecked bytes are shown to whom, and never the name of the blob', () => {
    const digest: OciDigest = `sha256:${'ab'.repeat(32)}`;
    const blob = (place: string) =>
      imageOfFiles(listOf(modelPlans([layer('a', { digest, size: 5e6 })]), place), '').image.blobs[0];
    const [one, other] = [blob('a.example/x'), blob('b.example/x')];
    assert.equal(one.id, other.id);
    assert.notEqual(one.origin, other.origin);
  });
});

describe('OCI artifacts', () => {
  const titled = (title: string, more: object = {}): Layer =>
    layer('', {
      mediaType: 'application/octet-stream',
      annotations: { 'org.opencontainers.image.title': title, ...more },
    });

  test('are files where every layer has a title, unless they are images for containers', () => {
    const layers = [titled('a.gguf')];
    assert.ok(isFilesArtifact({ layers, configType: 'application/vnd.oci.empty.v1+json' }));
    assert.ok(isFilesArtifact({ layers }));
    assert.ok(!isFilesArtifact({ layers, configType: 'application/vnd.oci.image.config.v1+json' }));
    assert.ok(!isFilesArtifact({ layers: [...layers, layer('b', { annotations: {} })] }));
    assert.ok(!isFilesArtifact({ layers: [] }));
  });

  test('have their titles as paths', () => {
    const list = listOfLayers('artifact', artifactPlans([titled('dir/a.gguf')]), new Map(), PLACE);
    const { image, bootstrap } = imageOfFiles(list, 'a manifest');
    assert.equal(image.format, 'artifact');
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ path }) => path),
      ['dir', 'dir/a.gguf'],
    );
    assert.throws(() => imageOfFiles(listOf(artifactPlans([titled('../x')])), ''), { code: 'corrupt' });
  });

  test('folders that were packed are tars', () => {
    const packed = { 'io.deis.oras.content.unpack': 'true' };
    for (const [mediaType, codec] of [
      ['application/vnd.oci.image.layer.v1.tar+gzip', 'gzip'],
      ['application/x', 'gzip'],
      ['application/x.tar', 'none'],
      ['application/x.tar+zstd', 'zstd'],
    ]) {
      const [{ holds }] = artifactPlans([{ ...titled('./dir/', packed), mediaType }]);
      assert.deepEqual(holds, { kind: 'tar', codec, folder: 'dir' });
    }
  });
});
