import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rename, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createCaptured } from '../../src/sources/registry/captured.ts';
import type { Candidate, Credential } from '../../src/sources/registry/credential.ts';
import { secretCredentials } from '../../src/sources/registry/secrets.ts';

let directory: string;
let count = 0;
before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-secrets-'));
});
after(() => rm(directory, { recursive: true, force: true }));

const encode = (text: string) => Buffer.from(text).toString('base64');
const basic = (username: string, password = 'p'): Credential => ({ kind: 'basic', username, password });

async function secret(auths: Record<string, string>, where = join(directory, `${count++}`)): Promise<string> {
  const entries = Object.entries(auths).map(([key, user]) => [key, { auth: encode(`${user}:p`) }]);
  await mkdir(where, { recursive: true });
  await writeFile(join(where, '.dockerconfigjson'), JSON.stringify({ auths: Object.fromEntries(entries) }));
  return where;
}

async function users(directories: string[], host: string, repository = 'team/app'): Promise<string[]> {
  const found: string[] = [];
  for await (const { credential } of secretCredentials(directories, host, repository, []))
    found.push(credential.kind === 'basic' ? credential.username : credential.kind);
  return found;
}

test('pull secrets: which entries match, and in which order', async () => {
  const mount = await secret({
    'r.io': 'host',
    'https://r.io/v2/': 'address',
    'r.io/team': 'team',
    'r.io/team/app': 'app',
    'r.io/tea': 'other',
    '*.cloud.io': 'any',
    '*.cloud.io:5000': 'port',
    'eu?.*.io/team': 'glob',
    'https://index.docker.io/v1/': 'hub',
  });
  assert.deepEqual(await users([mount], 'r.io'), ['app', 'team', 'host', 'address']);
  assert.deepEqual(await users([mount], 'r.io', 'teams'), ['host', 'address']);
  assert.deepEqual(await users([mount], 'a.cloud.io'), ['any']);
  assert.deepEqual(await users([mount], 'a.cloud.io:5000'), ['port']);
  assert.deepEqual(await users([mount], 'eu1.cloud.io'), ['glob', 'any']);
  assert.deepEqual(await users([mount], 'a.b.cloud.io'), [], 'a star is for one part of the name');
  assert.deepEqual(await users([mount], 'cloud.io'), []);
  for (const host of ['docker.io', 'registry-1.docker.io']) assert.deepEqual(await users([mount], host), ['hub']);
  // Without care a pattern like this takes for ever.
  const hostile = await secret({ [`${'*a'.repeat(5000)}b.io`]: 'x' });
  assert.deepEqual(await users([hostile], `${'a'.repeat(200)}.io`), []);
});

test('pull secrets: one mounted secret, a directory of several, the older form', async () => {
  const all = join(directory, `${count++}`);
  await secret({ 'r.io': 'one' }, join(all, 'a'));
  await secret({ 'r.io': 'two' }, join(all, 'b'));
  await mkdir(join(all, 'c'));
  await writeFile(join(all, 'c', '.dockercfg'), JSON.stringify({ 'r.io': { username: 'three', password: 'p' } }));
  await writeFile(join(all, 'README'), 'a file');
  const alone = await secret({ 'r.io': 'zero' });
  assert.deepEqual(await users([alone, all], 'r.io'), ['zero', 'one', 'two', 'three']);
});

test('pull secrets: what cannot be read is named, without its content', async () => {
  const broken = await secret({});
  await writeFile(join(broken, '.dockerconfigjson'), '{"auths": {"r.io": {"auth": "c2VjcmV0');
  const odd = await secret({});
  await writeFile(join(odd, '.dockerconfigjson'), JSON.stringify({ auths: { 'r.io': { auth: 'c2VjcmV0' } } }));
  const problems: string[] = [];
  const found: Candidate[] = [];
  for await (const one of secretCredentials([broken, odd, '/no/where'], 'r.io', 'x', problems)) found.push(one);
  assert.deepEqual(found, []);
  assert.equal(problems.length, 3);
  assert.match(problems[0], /cannot be read \(it is not JSON\)/);
  assert.match(problems[1], /no credential that can be read/);
  assert.match(problems[2], /no\/where cannot be read \(ENOENT\)/);
  assert.doesNotMatch(problems.join(), /c2Vj/);
});

test('pull secrets: a volume that Kubernetes swaps is read anew', async () => {
  const mount = join(directory, `${count++}`);
  await mkdir(mount);
  await secret({ 'r.io': 'old' }, join(mount, '..2026_01'));
  await symlink('..2026_01', join(mount, '..data'));
  await symlink('..data/.dockerconfigjson', join(mount, '.dockerconfigjson'));
  assert.deepEqual(await users([mount], 'r.io'), ['old']);
  await secret({ 'r.io': 'new' }, join(mount, '..2026_02'));
  await symlink('..2026_02', join(mount, '..data_tmp'));
  await rename(join(mount, '..data_tmp'), join(mount, '..data'));
  await rm(join(mount, '..2026_01'), { recursive: true });
  assert.deepEqual(await users([mount], 'r.io'), ['new']);
});

test('captured credentials: for their repository only, the newest first, kept if the pull succeeded', async () => {
  const captured = createCaptured(undefined, assert.fail);
  const find = async (host: string, repository: string) =>
    (await captured.find(host, repository, [])).map(({ credential }) => credential);
  captured.capture('r.io', 'a', basic('one')).keep();
  const second = captured.capture('r.io', 'a', basic('two'));
  assert.deepEqual(await find('r.io', 'a'), [basic('two'), basic('one')]);
  second.drop();
  assert.deepEqual(await find('r.io', 'a'), [basic('one')]);
  captured.capture('r.io', 'a', basic('one')).drop();
  assert.deepEqual(await find('r.io', 'a'), [basic('one')], 'an earlier pull has kept it');
  assert.deepEqual(await find('r.io', 'b'), []);
  assert.deepEqual(await find('q.io', 'a'), []);
  captured.capture('docker.io', 'library/a', basic('hub')).keep();
  assert.deepEqual(await find('registry-1.docker.io', 'library/a'), [basic('hub')]);
  for (let i = 0; i < 10; i++) captured.capture('r.io', 'many', basic(`${i}`)).keep();
  assert.deepEqual(await find('r.io', 'many'), [basic('9'), basic('8'), basic('7'), basic('6')]);
});

test('pulls of one repository at once: one that fails takes nothing from another, and wrong logins displace none', async () => {
  const captured = createCaptured(undefined, assert.fail);
  const names = async () =>
    (await captured.find('r.io', 'a', [])).map(({ credential }) => credential.kind === 'basic' && credential.username);
  const login = (username: string) => captured.capture('r.io', 'a', { kind: 'basic', username, password: 'p' });
  const fails = login('u');
  const succeeds = login('u');
  fails.drop();
  assert.deepEqual(await names(), ['u'], 'the other pull goes on');
  succeeds.keep();
  assert.deepEqual(await names(), ['u']);
  const wrong = Array.from({ length: 6 }, (_, i) => login(`wrong${i}`));
  for (const one of wrong) one.drop();
  assert.deepEqual(await names(), ['u']);
  for (let i = 0; i < 6; i++) login(`right${i}`).keep();
  assert.deepEqual(await names(), ['right5', 'right4', 'right3', 'right2']);
});

test('captured credentials outlive the process, in a file for its user only', async () => {
  const file = join(directory, 'made', 'captured.json');
  const first = createCaptured(file, assert.fail);
  first.capture('r.io', 'a', basic('old')).keep();
  first.capture('r.io', 'a', basic('new')).keep();
  first.capture('r.io', 'failed', basic('failed'));
  await first.flushed();
  assert.equal((await stat(file)).mode & 0o777, 0o600);
  const second = createCaptured(file, assert.fail);
  second.capture('r.io', 'a', basic('newest')).keep();
  await second.flushed();
  for (const captured of [second, createCaptured(file, assert.fail)]) {
    const found = await captured.find('r.io', 'a', []);
    assert.deepEqual(
      found.map(({ credential }) => credential),
      [basic('newest'), basic('new'), basic('old')],
    );
    assert.deepEqual(await captured.find('r.io', 'failed', []), []);
  }

  await writeFile(file, '{"credentials": [["r.io/a", {"kind": "basic", "username": "hunter2"');
  const damaged = createCaptured(file, assert.fail);
  const problems: string[] = [];
  assert.deepEqual(await damaged.find('r.io', 'a', problems), []);
  assert.match(problems.join(), /it is not JSON/);
  assert.doesNotMatch(problems.join(), /hunter2/);
  damaged.capture('r.io', 'a', basic('again')).keep();
  await damaged.flushed();
  assert.match(await readFile(file, 'utf8'), /"again"/);

  await writeFile(file, JSON.stringify({ credentials: [1, ['x'], ['r.io/a', { kind: 'basic', username: 1 }], null] }));
  assert.deepEqual(await createCaptured(file, assert.fail).find('r.io', 'a', []), []);
});

test('captured credentials: a file that cannot be written is told', async () => {
  const errors: Error[] = [];
  const captured = createCaptured(join(directory, 'file', 'captured.json'), (error) => errors.push(error));
  await writeFile(join(directory, 'file'), '');
  captured.capture('r.io', 'a', basic('one')).keep();
  await captured.flushed();
  assert.equal(errors.length, 1);
  const found = await captured.find('r.io', 'a', []);
  assert.equal(found.length, 1, 'it is still good for this process');
});
