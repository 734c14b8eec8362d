/** What registries answer: manifests, referrers, blobs, ranges, logins, redirects. */
import { MANIFEST_LIMIT, OCI_MANIFEST } from '../../../src/sources/descriptor.ts';
import { isDigest, sha256Digest } from '../../../src/sources/digest.ts';
import { openRegistryRepository } from '../../../src/sources/registry/repository.ts';
import { answersIn, scriptedNetwork, skipPauses } from '../scripted-network.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

skipPauses();

const CONTENT = Buffer.from('0123456789abcdefghijklmnopqrstuvwxyz');
const DIGEST = sha256Digest(CONTENT);
const [OFFSET, LENGTH] = [10, 20];
const MANIFEST = JSON.stringify({
  mediaType: OCI_MANIFEST,
  layers: [{ mediaType: 'application/vnd.oci.image.layer.v1.tar', digest: DIGEST, size: CONTENT.length }],
});
const LOGIN =
  '401 | www-authenticate: Bearer realm="https://auth.example/token",service="s",scope="repository:app:pull"\n';
const TOKEN = '200\n{"token":"abc","expires_in":300}';
const PART = `206 | content-range: bytes 10-29/36 | content-length: 20\n${CONTENT.subarray(10, 30)}`;

export const target: Target = {
  name: 'registry',
  text: true,
  seeds: () =>
    [
      [
        'resolve',
        `200 | content-type: ${OCI_MANIFEST} | docker-content-digest: ${sha256Digest(Buffer.from(MANIFEST))}\n${MANIFEST}`,
      ],
      ['resolve', LOGIN, TOKEN, `200\n${MANIFEST}`],
      [
        'resolve',
        '401 | www-authenticate: Basic realm="x"\n',
        '403\n{"errors":[{"code":"DENIED","message":"no"}]}',
        `200\n${MANIFEST}`,
      ],
      ['referrers', '404\n', '200\n{"manifests":[]}'],
      [
        'referrers',
        `200\n{"manifests":[{"mediaType":"${OCI_MANIFEST}","digest":"${DIGEST}","size":1,"artifactType":"a","annotations":{"a":"b"}}]}`,
      ],
      ['get', `200 | content-length: 36\n${CONTENT}`],
      ['get', '503 | retry-after: 1\nlater', '0', `200!\n${CONTENT.subarray(0, 9)}`, `200\n${CONTENT}`],
      ['read', PART],
      ['read', `200\n${CONTENT}`],
      ['read', '307 | location: https://elsewhere.example/x?sig=1\n', PART],
      ['read', LOGIN, TOKEN, '416 | content-range: bytes */36\n'],
      ['read', `206! | content-range: bytes 10-29/*\n${CONTENT.subarray(10, 15)}`],
      ['read', '429 | retry-after: Wed, 21 Oct 2015 07:28:00 GMT\n'],
    ].map((answers) => Buffer.from(answers.join('\n--\n'), 'latin1')),
  errors: ['corrupt', 'unsupported', 'denied', 'source', 'not-found', 'timeout'],
  places: false,
  limit: 8 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted(
      'manifests',
      'mediaType',
      'digest',
      'size',
      'annotations',
      'token',
      'access_token',
      'expires_in',
      'errors',
      'code',
      'message',
      DIGEST,
    ),
    ...[
      '\n--\n',
      '\n',
      ' | ',
      '200',
      '206',
      '206!',
      '0',
      '301',
      '307',
      '308',
      '401',
      '403',
      '404',
      '416',
      '429',
      '500',
      '503',
    ],
    ...[
      'content-range: bytes ',
      '10-29/36',
      '0-9/*',
      '*/36',
      'content-length: ',
      'content-encoding: gzip',
      'location: ',
      '/',
      'http://',
      'https://a@b:c/',
      'file:///etc/passwd',
    ],
    ...[
      'www-authenticate: ',
      'Bearer realm="',
      'Basic realm="x"',
      'Bearer',
      'realm=',
      'scope="a b"',
      'retry-after: ',
      '99999999999',
      'docker-content-digest: ',
      DIGEST,
    ],
  ],
  async run(input) {
    const [question, ...answers] = answersIn(input);
    const { network, requests } = scriptedNetwork(answers, 'https://registry.example/v2');
    const repository = openRegistryRepository(
      { kind: 'registry', host: 'registry.example', repository: 'app', tag: 't' },
      network,
    );
    const { signal } = new AbortController();
    switch (question) {
      case 'resolve': {
        const { bytes, descriptor } = await repository.resolve(signal);
        ensure(descriptor.digest === sha256Digest(bytes) && descriptor.size === bytes.length, 'not its digest');
        ensure(bytes.length <= MANIFEST_LIMIT && typeof descriptor.mediaType === 'string', 'no media type');
        return `resolve ${requests()}`;
      }
      case 'referrers': {
        const found = await repository.referrers!(DIGEST, signal);
        ensure(
          found.every(({ digest, size }) => isDigest(digest) && Number.isSafeInteger(size)),
          'no descriptor',
        );
        return `referrers ${requests()}`;
      }
      case 'get': {
        const bytes = await repository.get({ digest: DIGEST, size: CONTENT.length }, 1 << 20, signal);
        ensure(CONTENT.equals(bytes), 'other bytes');
        return `get ${requests()}`;
      }
      default: {
        let length = 0;
        for await (const piece of await repository.open({ digest: DIGEST }).read(OFFSET, LENGTH, signal))
          length += piece.length;
        ensure(length === LENGTH, `${length} bytes`);
        return `read ${requests()}`;
      }
    }
  },
};
