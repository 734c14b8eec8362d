/** Our own configuration. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseConfig } from '../../../src/daemon/config.ts';
import { PROJECT } from '../../fixtures.ts';
import { ensure, type Target } from '../target.ts';
import { TOML_WORDS } from '../words.ts';

export const target: Target = {
  name: 'config',
  text: true,
  seeds: () => {
    const examples = readFileSync(join(PROJECT, 'docs', 'configuration.md'), 'utf8').matchAll(/```toml\n(.*?)```/gs);
    return [
      '',
      'root = "/r"\n[cache]\nquota = "10 GiB"\n[fetch]\ndeadline = "30s"\n',
      ...[...examples].map(([, text]) => text),
    ].map((text) => Buffer.from(text));
  },
  errors: ['config'],
  limit: 16 << 10,
  words: [
    ...TOML_WORDS,
    'root',
    'cache',
    'quota',
    'fetch',
    'deadline',
    '"10 GiB"',
    '"1e9"',
    '"30s"',
    '"-1"',
    'fuse',
    'driver',
    'log',
  ],
  run(input) {
    const config = parseConfig(Buffer.from(input).toString('utf8'), 'config.toml');
    for (const value of Object.values(config)) ensure(value !== undefined, 'a setting without a value');
    return 'read';
  },
};
