/** Layers of model artifacts: annotations, paths, sizes; and the tree that is made of them. */
import { treeFiles } from '../../../src/cli/tree-files.ts';
import { imageOfFiles } from '../../../src/formats/files/image.ts';
import { listOfLayers } from '../../../src/formats/files/layers.ts';
import { describeModel } from '../../../src/formats/modelpack/description.ts';
import { filesKind, plansOf } from '../../../src/mount/files.ts';
import { OCI_MANIFEST, parseDescriptor, parseJsonObject } from '../../../src/sources/descriptor.ts';
import { sha256Digest } from '../../../src/sources/digest.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

const TYPE = 'application/vnd.cncf.model.';
const layer = (path: string, more: object = {}) => ({
  mediaType: `${TYPE}weight.v1.raw`,
  digest: `sha256:${'ab'.repeat(32)}`,
  size: 10,
  annotations: {
    'org.cncf.model.filepath': path,
    'org.cncf.model.file.metadata+json': JSON.stringify({
      name: 'x',
      mode: 420,
      size: 10,
      mtime: '2025-11-10T09:08:07.5Z',
      typeflag: 0,
    }),
  },
  ...more,
});

export const target: Target = {
  name: 'modelpack',
  text: true,
  seeds: () =>
    [
      { artifactType: `${TYPE}manifest.v1+json`, layers: [layer('config.json'), layer('a/b/model.safetensors')] },
      { config: { mediaType: `${TYPE}config.v1+json` }, layers: [layer('a', { size: 0 }), layer('a/b')] },
      { layers: [layer('x', { mediaType: 'application/vnd.cnai.model.weight.v1.gguf', size: 2 ** 45 })] },
      { layers: [layer('x', { mediaType: `${TYPE}dataset.v1.tar+zstd` })] },
      { layers: [layer('x', { mediaType: 'application/vnd.kitops.modelkit.model.v1.tar' })] },
      {
        layers: [
          layer('x', {
            annotations: { 'org.opencontainers.image.title': 'x/', 'io.deis.oras.content.unpack': 'true' },
          }),
        ],
      },
      { layers: [layer('../x', { annotations: { 'org.cnai.model.file.metadata': '{"typeflag":5}' } })] },
      {
        descriptor: { name: 'a', authors: ['b'] },
        config: { paramSize: '1b', capabilities: { inputTypes: ['text'] } },
      },
      {
        layers: [
          layer('x', {
            size: 5e6,
            annotations: {
              'org.cncf.model.filepath': 'x',
              'org.cnai.nydus.crcs': '{"files":[{"file_path":"x","chunk_crcs":"0x1"}]}',
            },
          }),
        ],
      },
      { package: { name: 'p' }, model: { license: 'MIT' } },
    ].map((manifest) => Buffer.from(JSON.stringify(manifest))),
  errors: ['corrupt', 'unsupported'],
  limit: 16 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted(
      'layers',
      'mediaType',
      'annotations',
      'size',
      'org.cncf.model.filepath',
      'org.cnai.model.filepath',
      'org.opencontainers.image.title',
      'org.cncf.model.file.metadata+json',
    ),
    `${TYPE}weight.config.v1.raw`,
    'tar+gzip',
    '/../',
    './',
    '\\u0000',
    '\\\\',
  ],
  run(input) {
    const described = Object.values(describeModel(input)).flat();
    ensure(
      described.every((text) => typeof text === 'string' && text !== ''),
      'a description that is no text',
    );
    const { layers } = parseJsonObject(input, 'input');
    const parsed = Array.isArray(layers) ? layers.map((one, i) => parseDescriptor(one, `layers[${i}]`)) : [];
    const descriptor = { mediaType: OCI_MANIFEST, digest: sha256Digest(input), size: input.length };
    const kind = filesKind({ descriptor, bytes: input }, parsed, 'input');
    if (kind === undefined || kind === 'hub') return 'no model';
    const plans = plansOf(kind, parsed);
    // What tars hold is another target's.
    const tars = new Map(plans.map((plan) => [plan, { members: [] }]));
    const { image, bootstrap, paths, pieces } = imageOfFiles(
      listOfLayers(kind, plans, tars, 'registry.example/x'),
      'input',
    );
    for (const { path, type, size, blob } of treeFiles(bootstrap, true)) {
      ensure(!path.startsWith('/') && !path.split('/').includes('..') && !path.includes('\0'), 'a path leads out');
      if (type !== 'file' || size === 0) continue;
      ensure(blob !== undefined && image.blobs[blob]?.size === size, 'a file is not its blob');
    }
    for (const [i, list] of pieces.entries())
      for (const { offset, size } of list ?? [])
        ensure(size > 0 && offset + size <= image.blobs[i].size, 'a piece lies outside');
    for (const { size, chunks } of image.blobs) {
      const last = chunks.count - 1;
      ensure(chunks.offset[last] + chunks.size[last] === size, 'chunks do not cover their blob');
    }
    return `${Math.min(paths.length, 3)} blobs`;
  },
};
