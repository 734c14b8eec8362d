/** References and platforms, as people and files name them. */
import { formatPlatform, parsePlatform } from '../../../src/sources/platform.ts';
import { formatReference, parseReference, pinnedDigest } from '../../../src/sources/reference.ts';
import { ensure, type Target } from '../target.ts';

export const target: Target = {
  name: 'reference',
  text: true,
  seeds: () =>
    [
      'app',
      'registry.example:5000/team/app:v1.2_3-x',
      `localhost/app@sha256:${'ab'.repeat(32)}`,
      `[::1]:80/a/b__c:t@sha256:${'cd'.repeat(32)}`,
      'index.docker.io/library/app',
      'oci:/var/lib/layout:tag',
      'rafs:relative/folder',
      'nydusd:/etc/a%3Ab.json:/var/bootstrap',
      'nydusd:conf.json:registry.example/app:1',
      'linux/arm64/v8',
      'linux/x86_64',
    ].map((text) => Buffer.from(text)),
  errors: ['usage'],
  limit: 10 << 10,
  words: [
    'oci:',
    'rafs:',
    'nydusd:',
    '@sha256:',
    'sha512:',
    ':',
    '/',
    '//',
    '..',
    '%3A',
    '%25',
    '[::1]',
    'docker.io',
    'localhost',
    '.',
    '__',
    '-',
    'constructor',
    '__proto__',
    'linux/',
    'ab'.repeat(32),
  ],
  run(input) {
    const text = Buffer.from(input).toString('utf8');
    if (/^linux/.test(text)) {
      const platform = parsePlatform(text);
      const again = formatPlatform(platform);
      ensure(formatPlatform(parsePlatform(again)) === again, `${JSON.stringify(again)} is not stable`);
      return 'platform';
    }
    const reference = parseReference(text, '/directory');
    const full = formatReference(reference);
    // What was written relatively is longer in full.
    if (full.length <= 8192)
      ensure(formatReference(parseReference(full, '/other')) === full, `${JSON.stringify(full)} means something else`);
    pinnedDigest(reference);
    if (reference.kind === 'registry') {
      const url = new URL(
        `https://${reference.host}/v2/${reference.repository}/manifests/${reference.tag ?? reference.digest}`,
      );
      ensure(
        url.pathname.startsWith('/v2/') &&
          url.pathname.split('/').length > 4 &&
          url.search === '' &&
          url.username === '',
        `${JSON.stringify(full)} is no path of an address`,
      );
    }
    return reference.kind;
  },
};
