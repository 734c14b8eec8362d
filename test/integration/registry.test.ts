import assert from 'node:assert/strict';
import { type ChildProcess, execFile, spawn, spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { openRepository } from '../../src/sources/open.ts';
import { freePort } from '../free-port.ts';
import { type MadeLayout, makeLayout } from '../registry/layout.ts';
import { collect, known, sourceSuite } from '../source-suite.ts';

const run = promisify(execFile);
const missing = ['docker-registry', 'skopeo'].filter((program) => spawnSync(program, ['--version']).error);
const skip = missing.length > 0 ? `not installed: ${missing.join(', ')}` : false;
const never = new AbortController().signal;

/** Debian's registry with an image, and what it takes to end it. */
interface RealRegistry {
  host: string;
  layout: MadeLayout;
  directory: string;
  close(): Promise<void>;
}

async function startReal(extra: (directory: string) => Promise<string> | string = () => ''): Promise<RealRegistry> {
  const directory = await mkdtemp(join(tmpdir(), 'nymph-real-registry-'));
  const port = await freePort();
  const config = join(directory, 'config.yml');
  await writeFile(
    config,
    `version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: ${join(directory, 'data')}}, delete: {enabled: false}}
http: {addr: '127.0.0.1:${port}'}
${await extra(directory)}`,
  );
  const child = spawn('docker-registry', ['serve', config], { stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text) => {
    said = `${said}${text}`.slice(-4000);
  });
  const host = `127.0.0.1:${port}`;
  await answers(`http://${host}/v2/`, child, () => said);
  return {
    host,
    directory,
    layout: await makeLayout(join(directory, 'layout'), [2_500_000, 30_000]),
    close: async () => {
      child.kill();
      await new Promise((resolve) => child.once('exit', resolve));
      await rm(directory, { recursive: true, force: true });
    },
  };
}

const push = (real: RealRegistry, ...options: string[]) =>
  run('skopeo', [
    'copy',
    '-q',
    '--preserve-digests',
    '--dest-tls-verify=false',
    ...options,
    `oci:${real.layout.path}:latest`,
    `docker://${real.host}/team/app:v1`,
  ]);

async function answers(url: string, child: ChildProcess, said: () => string): Promise<void> {
  for (let i = 0; i < 200; i++) {
    if (child.exitCode !== null) throw new Error(`docker-registry ended with ${child.exitCode}: ${said()}`);
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    );
    if (status !== 0) return;
    await sleep(50);
  }
  throw new Error('docker-registry does not answer');
}

if (skip === false) {
  sourceSuite('docker-registry', async () => {
    const real = await startReal();
    await push(real);
    return {
      repository: openRepository(`${real.host}/team/app:v1`, {
        configDirs: [],
        credentials: join(real.directory, 'none'),
      }),
      large: real.layout.blobs[0],
      small: real.layout.blobs[1],
      manifest: real.layout.manifest,
      close: real.close,
    };
  });
} else test('source promises: docker-registry', { skip }, () => {});

describe('docker-registry with a password file', { skip }, () => {
  let real: RealRegistry;
  before(async () => {
    real = await startReal(async (directory) => {
      // bcrypt of "hunter2", as `htpasswd -B` writes it: the only kind that this registry takes.
      await writeFile(join(directory, 'htpasswd'), 'me:$2y$05$4clQAByh1QU52o1dOqGKlOgxYYxOes4A6OMCzvQyeejpSb0/6pPJa\n');
      return `auth: {htpasswd: {realm: basic-realm, path: ${join(directory, 'htpasswd')}}}`;
    });
    await push(real, '--dest-creds=me:hunter2');
  });
  after(() => real?.close());

  test('skopeo login writes what we read', async () => {
    const authfile = join(real.directory, 'auth.json');
    await run('skopeo', [
      'login',
      '--tls-verify=false',
      '--authfile',
      authfile,
      '-u',
      'me',
      '-p',
      'hunter2',
      real.host,
    ]);
    const repository = openRepository(`${real.host}/team/app:v1`, { configDirs: [], credentials: authfile });
    const [{ digest, bytes }] = real.layout.blobs;
    const got = await collect(await repository.open({ digest }).read(1000, 5000, never));
    assert.ok(got.equals(bytes.subarray(1000, 6000)));
    await repository.close();
  });

  test('without it the answer is a hint to log in', async () => {
    const repository = openRepository(`${real.host}/team/app:v1`, {
      configDirs: [],
      credentials: join(real.directory, 'none'),
    });
    await assert.rejects(repository.resolve(never), known({ code: 'denied', hint: /skopeo login/ }));
    await repository.close();
  });
});

describe('docker-registry as a mirror', { skip }, () => {
  test('a hosts.toml as containerd has it', async (t) => {
    const real = await startReal();
    t.after(() => real.close());
    await push(real);
    const directory = join(real.directory, 'certs.d', 'registry.test');
    await mkdir(directory, { recursive: true });
    await writeFile(
      join(directory, 'hosts.toml'),
      `[host."http://${real.host}"]\ncapabilities = ["pull", "resolve"]\n`,
    );
    const repository = openRepository('registry.test/team/app:v1', { configDirs: [join(real.directory, 'certs.d')] });
    assert.equal((await repository.resolve(never)).descriptor.digest, real.layout.manifest.digest);
    await repository.close();
  });
});
