/** `WWW-Authenticate` headers. */
import { parseRetryAfter } from '../../../src/sources/http/errors.ts';
import { parseChallenges } from '../../../src/sources/registry/challenge.ts';
import { ensure, type Target } from '../target.ts';

export const target: Target = {
  name: 'challenge',
  text: true,
  seeds: () =>
    [
      'Bearer realm="https://auth.example/token",service="registry.example",scope="repository:app:pull,push"',
      'Basic realm="a \\"quoted\\" b", charset=UTF-8, Bearer realm=x',
      'Negotiate abc==, Basic realm=x',
      '120',
      'Wed, 21 Oct 2026 07:28:00 GMT',
    ].map((text) => Buffer.from(text)),
  errors: [],
  limit: 16 << 10,
  words: ['Bearer ', 'Basic ', 'realm=', '"', '\\"', ', ', '=', '==', 'a=b', ' \t ', '\\\\', ',,,,', 'a='],
  run(input) {
    const text = Buffer.from(input).toString('latin1');
    const found = parseChallenges(text.split('\n'));
    for (const { scheme, parameters } of found) {
      ensure(scheme !== '' && scheme === scheme.toLowerCase(), 'a scheme that is none');
      ensure(
        Object.values(parameters).every((value) => typeof value === 'string'),
        'a value that is no text',
      );
    }
    const wait = parseRetryAfter(text, 1_790_000_000_000);
    ensure(wait === undefined || (wait >= 0 && wait <= 3_600_000), `a wait of ${wait} ms`);
    return `${Math.min(found.length, 4)} ${wait === undefined}`;
  },
};
