import assert from 'node:assert/strict';
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { parseChallenges } from '../../src/sources/registry/challenge.ts';
import type { Credential } from '../../src/sources/registry/credential.ts';
import { credentialFiles, dockerCredentials } from '../../src/sources/registry/docker-config.ts';

let directory: string;
let count = 0;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-credentials-'));
});
after(() => rm(directory, { recursive: true, force: true }));

async function file(value: unknown): Promise<string> {
  const path = join(directory, `${count++}.json`);
  await writeFile(path, typeof value === 'string' ? value : JSON.stringify(value));
  return path;
}
/** The first credential of the files, and what was wrong until then. */
async function findCredential(
  files: string[],
  host: string,
  repository: string,
  env?: NodeJS.ProcessEnv,
): Promise<{ credential?: Credential; problems: string[] }> {
  const problems: string[] = [];
  for await (const { credential } of dockerCredentials(files, host, repository, problems, env))
    return { credential, problems };
  return { problems };
}
const encode = (text: string) => Buffer.from(text).toString('base64');
const basic = (username: string, password: string) => ({ kind: 'basic', username, password });

test('challenges of WWW-Authenticate', () => {
  const read = (...values: string[]) =>
    parseChallenges(values).map(({ scheme, parameters }) => ({ scheme, ...parameters }));
  assert.deepEqual(read('Bearer realm="https://a/t",service="s, x",scope="repository:a/b:pull,push"'), [
    { scheme: 'bearer', realm: 'https://a/t', service: 's, x', scope: 'repository:a/b:pull,push' },
  ]);
  assert.deepEqual(read('Basic realm="x\\"y", Bearer realm=https://a , error="invalid_token"'), [
    { scheme: 'basic', realm: 'x"y' },
    { scheme: 'bearer', realm: 'https://a', error: 'invalid_token' },
  ]);
  assert.deepEqual(read('Negotiate', 'Negotiate YWJj==, BASIC Realm = "r"'), [
    { scheme: 'negotiate' },
    { scheme: 'negotiate' },
    { scheme: 'basic', realm: 'r' },
  ]);
  assert.deepEqual(read(''), []);
  assert.deepEqual(read('"', ',,,', '='), []);
  assert.deepEqual(read('Bearer realm="unclosed')[0], { scheme: 'bearer' });
  const started = performance.now();
  parseChallenges([`Bearer ${'a="\\'.repeat(4000)}`, 'x '.repeat(8000), `Bearer a="${'\\"'.repeat(8000)}`]);
  assert.ok(performance.now() - started < 5_000, 'hostile headers take no long time');
});

test('which files are read', () => {
  assert.deepEqual(credentialFiles('/given'), ['/given']);
  const uid = process.getuid?.() ?? 0;
  assert.deepEqual(credentialFiles(undefined, { HOME: '/h' }), [
    '/h/.docker/config.json',
    `/run/containers/${uid}/auth.json`,
    '/h/.config/containers/auth.json',
  ]);
  assert.deepEqual(
    credentialFiles(undefined, { HOME: '/h', DOCKER_CONFIG: '/d', XDG_RUNTIME_DIR: '/x', XDG_CONFIG_HOME: '/c' }),
    ['/d/config.json', '/x/containers/auth.json', '/c/containers/auth.json'],
  );
  assert.deepEqual(credentialFiles(undefined, { HOME: '/h', REGISTRY_AUTH_FILE: '/r' }), [
    '/h/.docker/config.json',
    '/r',
  ]);
});

test('entries of auths', async () => {
  const path = await file({
    auths: {
      'r.io': { auth: encode('me:pass:word') },
      'https://q.io:5000/v2/': { username: 'u', password: 'p' },
      'https://index.docker.io/v1/': { auth: encode('hub:secret') },
      'token.io': { identitytoken: 'identity', auth: encode('00000000-0000:') },
      'raw.io': { registrytoken: 'raw' },
      'empty.io': {},
      'odd.io': { auth: '!!!' },
      'scoped.io': { auth: encode('all:1') },
      'scoped.io/team': { auth: encode('team:2') },
      'scoped.io/team/app': { auth: encode('app:3') },
    },
  });
  const find = async (host: string, repository = 'x') => (await findCredential([path], host, repository)).credential;
  assert.deepEqual(await find('r.io'), basic('me', 'pass:word'));
  assert.deepEqual(await find('q.io:5000'), basic('u', 'p'));
  assert.equal(await find('q.io'), undefined);
  for (const host of ['docker.io', 'registry-1.docker.io']) assert.deepEqual(await find(host), basic('hub', 'secret'));
  assert.deepEqual(await find('token.io'), { kind: 'identity', token: 'identity' });
  assert.deepEqual(await find('raw.io'), { kind: 'bearer', token: 'raw' });
  assert.deepEqual(await find('scoped.io', 'team/app'), basic('app', '3'));
  assert.deepEqual(await find('scoped.io', 'team/other/deep'), basic('team', '2'));
  assert.deepEqual(await find('scoped.io', 'teams'), basic('all', '1'));
  assert.deepEqual(await findCredential([path], 'empty.io', 'x'), { problems: [] });
  assert.match((await findCredential([path], 'odd.io', 'x')).problems[0], /odd\.io/);
});

test('files in order; those that cannot be read are named, without their content', async () => {
  const broken = await file('{"auths": {"r.io": {"auth": "c2VjcmV0');
  const good = await file({ auths: { 'r.io': { auth: encode('a:b') } } });
  const later = await file({ auths: { 'r.io': { auth: encode('c:d') } } });
  const found = await findCredential([join(directory, 'none'), broken, good, later], 'r.io', 'x');
  assert.deepEqual(found.credential, basic('a', 'b'));
  assert.equal(found.problems.length, 1);
  assert.match(found.problems[0], /cannot be read/);
  assert.doesNotMatch(found.problems[0], /c2Vj/);
});

test('credential helpers: their protocol, their failures', async () => {
  const bin = join(directory, 'bin');
  await mkdir(bin);
  const helper = async (name: string, script: string) => {
    await writeFile(join(bin, `docker-credential-${name}`), `#!/bin/sh\n${script}\n`);
    await chmod(join(bin, `docker-credential-${name}`), 0o755);
  };
  await helper(
    'good',
    'read -r server; printf \'{"ServerURL":"%s","Username":"user of %s","Secret":"s"}\' "$server" "$server"',
  );
  await helper('token', 'cat >/dev/null; echo \'{"Username":"<token>","Secret":"refresh"}\'');
  await helper('none', 'cat >/dev/null; echo "credentials not found in native keychain"; exit 1');
  await helper('bad', 'echo "my secret is hunter2" >&2; echo hunter2; exit 3');
  await helper('odd', 'echo "hunter2"');
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}` };
  const find = async (config: object, host = 'r.io') => findCredential([await file(config)], host, 'x', env);

  assert.deepEqual((await find({ credsStore: 'good' })).credential, basic('user of r.io', 's'));
  assert.deepEqual(
    (await find({ credsStore: 'good' }, 'docker.io')).credential,
    basic('user of https://index.docker.io/v1/', 's'),
  );
  assert.deepEqual(
    (await find({ credsStore: 'bad', credHelpers: { 'r.io': 'good' } })).credential,
    basic('user of r.io', 's'),
  );
  assert.deepEqual((await find({ credsStore: 'token' })).credential, { kind: 'identity', token: 'refresh' });
  const auths = { 'r.io': { auth: encode('a:b') } };
  assert.deepEqual(await find({ credsStore: 'none', auths }), { credential: basic('a', 'b'), problems: [] });
  for (const [store, problem] of [
    ['bad', /docker-credential-bad failed \(3\)/],
    ['odd', /docker-credential-odd gave no credential/],
    ['absent', /docker-credential-absent failed \(ENOENT\)/],
    ['../../bin/sh', /not a program name/],
  ] as const) {
    const { credential, problems } = await find({ credsStore: store });
    assert.equal(credential, undefined);
    assert.match(problems.join(), problem);
    assert.doesNotMatch(problems.join(), /hunter2/);
  }
});
