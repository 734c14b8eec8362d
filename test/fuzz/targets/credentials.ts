/** Files with credentials: Docker's and containers' configurations, Kubernetes secrets, our own book. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createCaptured } from '../../../src/sources/registry/captured.ts';
import type { Candidate } from '../../../src/sources/registry/credential.ts';
import { dockerCredentials } from '../../../src/sources/registry/docker-config.ts';
import { secretCredentials } from '../../../src/sources/registry/secrets.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted } from '../words.ts';

const directory = mkdtempSync(join(tmpdir(), 'nymph-fuzz-credentials-'));
process.on('exit', () => rmSync(directory, { recursive: true, force: true }));
const secrets = join(directory, 'secrets');
mkdirSync(secrets);
const FILES = [join(directory, 'config.json'), join(secrets, '.dockerconfigjson'), join(secrets, '.dockercfg')];
const HOST = 'registry.example:5000';
const auth = Buffer.from('me:secret').toString('base64');

export const target: Target = {
  name: 'credentials',
  text: true,
  share: 0.03,
  seeds: () =>
    [
      {
        auths: {
          [HOST]: { auth },
          [`https://${HOST}/v1/`]: { username: 'a', password: 'b' },
          [`${HOST}/team`]: { identitytoken: 't' },
        },
      },
      {
        auths: { '*.example:5000': { registrytoken: 'x' }, 'docker.io': {} },
        credHelpers: { [HOST]: 'none' },
        credsStore: 'absent',
      },
      {
        credentials: [
          [`${HOST}/team/app`, { kind: 'basic', username: 'a', password: 'b' }],
          [`${HOST}/x`, { kind: 'bearer', token: 't' }],
        ],
      },
      { [HOST]: { auth }, 'https://*.example': { username: 'u', password: 'p' } },
    ].map((value) => Buffer.from(JSON.stringify(value))),
  errors: [],
  limit: 8 << 10,
  words: [
    ...JSON_WORDS,
    ...quoted(
      'auths',
      'auth',
      'username',
      'password',
      'identitytoken',
      'registrytoken',
      'credHelpers',
      'credsStore',
      'credentials',
      'kind',
      'basic',
      'token',
      HOST,
      `${HOST}/team`,
      `${HOST}/team/app`,
      '*.example',
      '[a-',
      'https://*',
      '../x',
      auth,
      'Og==',
    ),
  ],
  async run(input) {
    for (const file of FILES) writeFileSync(file, input);
    const problems: string[] = [];
    const found: Candidate[] = [];
    // No program of that name can be found.
    const env = { PATH: '/nowhere' };
    for await (const one of dockerCredentials([FILES[0]], HOST, 'team/app', problems, env)) found.push(one);
    for await (const one of secretCredentials([secrets], HOST, 'team/app', problems)) found.push(one);
    const captured = createCaptured(FILES[0], (error) => {
      throw error;
    });
    found.push(...(await captured.find(HOST, 'team/app', problems)));
    for (const { credential } of found) {
      ensure(['basic', 'identity', 'bearer'].includes(credential.kind), 'another kind');
      const texts = credential.kind === 'basic' ? [credential.username, credential.password] : [credential.token];
      ensure(
        texts.every((text) => typeof text === 'string'),
        'a credential that is no text',
      );
    }
    // The files may hold secrets.
    for (const problem of problems)
      ensure(!problem.includes('secret') || problem.includes(secrets), 'a problem tells a secret');
    return `${Math.min(found.length, 4)} ${Math.min(problems.length, 4)}`;
  },
};
