/** Requests to the control API. */
import { mountRequest, pruneRequest, pullRequest, verifyRequest } from '../../../src/daemon/requests.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

export const target: Target = {
  name: 'control',
  text: true,
  seeds: () =>
    [
      { reference: 'app', directory: '/mnt', options: { platform: 'linux/amd64', prefetch: 'all', via: 'fuse' } },
      { target: 1 },
      { target: 't', cachedOnly: true },
    ].map((value) => Buffer.from(JSON.stringify(value))),
  errors: ['usage'],
  limit: 4 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted('reference', 'directory', 'options', 'platform', 'prefetch', 'via', 'target', 'cachedOnly', '/a'),
  ],
  run(input) {
    let body: unknown;
    try {
      body = JSON.parse(Buffer.from(input).toString('utf8'));
    } catch {
      return 'no JSON';
    }
    let refused: unknown;
    for (const read of [mountRequest, pullRequest, verifyRequest, pruneRequest]) {
      try {
        ensure(typeof read(body) === 'object', 'no request');
      } catch (error) {
        refused = error;
      }
    }
    if (refused !== undefined) throw refused;
    return 'read';
  },
};
