/** Ordinary images that are to be converted: manifests, indexes, configs. */
import { historyOf } from '../../../src/build/history.ts';
import { findSourceImages } from '../../../src/build/source-image.ts';
import { OCI_INDEX, OCI_MANIFEST } from '../../../src/sources/descriptor.ts';
import { isDigest } from '../../../src/sources/digest.ts';
import { scriptedRepository } from '../scripted-repository.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const CONFIG = { mediaType: 'application/vnd.oci.image.config.v1+json', digest: DIGEST, size: 2 };
const LAYER = { mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip', digest: DIGEST, size: 10 };
const manifest = { mediaType: OCI_MANIFEST, config: CONFIG, layers: [LAYER, LAYER], annotations: { a: 'b' } };
const config = {
  os: 'linux',
  architecture: 'arm',
  variant: 'v7',
  history: [{ created_by: 'x' }, { empty_layer: true }, {}],
};
const entry = { mediaType: OCI_MANIFEST, digest: DIGEST, size: 5, platform: { os: 'linux', architecture: 'arm64' } };

export const target: Target = {
  name: 'convert',
  text: true,
  seeds: () =>
    [
      [manifest, config],
      [
        {
          mediaType: OCI_INDEX,
          manifests: [entry, { ...entry, platform: { os: 'unknown', architecture: 'unknown' } }],
        },
        manifest,
        {},
      ],
      [
        { ...manifest, layers: [] },
        { ...config, history: [] },
      ],
    ].map((documents) => Buffer.from(documents.map((document) => JSON.stringify(document)).join('\n--\n'))),
  errors: ['corrupt', 'unsupported', 'not-found', 'usage'],
  limit: 16 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted(
      'mediaType',
      'manifests',
      'layers',
      'config',
      'digest',
      'size',
      'annotations',
      'platform',
      'os',
      'architecture',
    ),
    ...quoted('variant', 'history', 'empty_layer', OCI_INDEX, OCI_MANIFEST, DIGEST, 'linux', 'arm', 'a b'),
    '\n--\n',
  ],
  async run(input) {
    const { images, entries } = await findSourceImages(scriptedRepository(input), 'all', new AbortController().signal);
    for (const { layers, config: found, annotations = {}, entry: own } of images) {
      for (const { digest, size } of layers) ensure(isDigest(digest) && Number.isSafeInteger(size), 'no descriptor');
      const history = historyOf(
        found,
        layers.map((_, i) => i % 2 === 0),
      );
      ensure(
        history === undefined || history.every((one) => typeof one === 'object' && one !== null),
        'an odd history',
      );
      ensure(
        Object.values(annotations).every((value) => typeof value === 'string'),
        'an annotation that is no text',
      );
      ensure(typeof own === 'object', 'an entry that is none');
    }
    return `${Math.min(images.length, 2)} ${entries.length > 0}`;
  },
};
