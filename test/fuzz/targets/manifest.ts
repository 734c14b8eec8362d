/** Manifests, indexes and referrers: what is chosen of them, and what they say of layers. */
import { bootstrapLayer, isNydusImage } from '../../../src/formats/rafs/manifest.ts';
import { chooseImage } from '../../../src/mount/choose.ts';
import { isIndexType, OCI_INDEX, OCI_MANIFEST } from '../../../src/sources/descriptor.ts';
import { isDigest, sha256Digest } from '../../../src/sources/digest.ts';
import { NYDUS_ARTIFACT, NYDUS_FEATURE } from '../../../src/sources/platform.ts';
import { scriptedRepository } from '../scripted-repository.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

const DIGEST = `sha256:${'ab'.repeat(32)}`;
const PREFIX = 'containerd.io/snapshot/nydus-';
const layer = {
  mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
  digest: DIGEST,
  size: 10,
  annotations: { [`${PREFIX}bootstrap`]: 'true', [`${PREFIX}fs-version`]: '6' },
};
const plain = { mediaType: OCI_MANIFEST, layers: [{ ...layer, annotations: {} }] };
const nydus = { mediaType: OCI_MANIFEST, layers: [{ ...layer, annotations: {} }, layer] };
const entry = (architecture: string, more: object = {}) => ({
  mediaType: OCI_MANIFEST,
  digest: DIGEST,
  size: 5,
  platform: { os: 'linux', architecture },
  ...more,
});

export const target: Target = {
  name: 'manifest',
  text: true,
  seeds: () =>
    [
      [nydus],
      [plain],
      [
        {
          mediaType: OCI_INDEX,
          manifests: [
            entry('amd64'),
            entry('arm64'),
            entry('amd64', { platform: { os: 'linux', architecture: 'amd64', 'os.features': [NYDUS_FEATURE] } }),
          ],
        },
        nydus,
      ],
      [
        {
          mediaType: OCI_INDEX,
          manifests: [
            entry('arm', { platform: { os: 'linux', architecture: 'arm', variant: 'v6' } }),
            entry('x86_64', { artifactType: NYDUS_ARTIFACT }),
          ],
        },
        plain,
      ],
      [
        plain,
        { manifests: [{ ...entry('amd64'), artifactType: NYDUS_ARTIFACT }] },
        { ...nydus, subject: { digest: sha256Digest(Buffer.from(JSON.stringify(plain))) } },
      ],
      [{ mediaType: OCI_INDEX, manifests: [{ ...entry('amd64'), digest: `sha512:${'a'.repeat(128)}` }] }],
      [{ layers: [{ ...layer, mediaType: 'application/vnd.cncf.model.weight.v1.raw' }] }],
      [
        {
          layers: [
            {
              ...layer,
              mediaType: `${layer.mediaType}+encrypted`,
              annotations: { 'org.opencontainers.image.enc.keys.jwe': 'x' },
            },
          ],
        },
      ],
    ].map((documents) => Buffer.from(documents.map((document) => JSON.stringify(document)).join('\n--\n'))),
  errors: ['corrupt', 'unsupported', 'not-found'],
  limit: 16 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted(
      'mediaType',
      'manifests',
      'layers',
      'digest',
      'size',
      'annotations',
      'platform',
      'os',
      'architecture',
      'variant',
      'os.features',
      'artifactType',
      'subject',
    ),
    ...quoted(
      OCI_INDEX,
      OCI_MANIFEST,
      DIGEST,
      `${PREFIX}bootstrap`,
      `${PREFIX}fs-version`,
      'true',
      'linux',
      'amd64',
      'arm',
      'v6',
      'unknown',
      NYDUS_FEATURE,
      NYDUS_ARTIFACT,
    ),
    '\n--\n',
  ],
  async run(input) {
    const { layers, manifest, choice } = await chooseImage(
      scriptedRepository(input),
      'linux/amd64',
      false,
      new AbortController().signal,
    );
    ensure(!isIndexType(manifest.descriptor.mediaType), 'an index was chosen');
    for (const { digest, size, annotations = {} } of layers) {
      ensure(isDigest(digest) && Number.isSafeInteger(size) && size >= 0, 'no descriptor');
      ensure(
        Object.values(annotations).every((value) => typeof value === 'string'),
        'an annotation that is no text',
      );
    }
    ensure(isNydusImage(layers) || choice === undefined, 'an ordinary image was preferred');
    return `${bootstrapLayer(layers).mediaType.length > 0} ${choice?.by}`;
  },
};
