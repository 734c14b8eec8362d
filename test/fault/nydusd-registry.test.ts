/** The registry of a configuration of nydusd: who gets its login, and where its blobs are looked for. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openRepository } from '../../src/sources/open.ts';
import type { Source } from '../../src/sources/source.ts';
import { freePort } from '../free-port.ts';
import { type MadeBlobs, makeBlobs, nydusdReference, writeConfig } from '../nydusd.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../registry/certificate.ts';
import { type RegistryOptions, startRegistry, type TestRegistry } from '../registry/registry.ts';
import { collect, known } from '../source-suite.ts';

const never = new AbortController().signal;
const AUTH = { kind: 'token', username: 'user', password: 'pass' } as const;
const auth = Buffer.from('user:pass').toString('base64');
let root: string;
let made: MadeBlobs;
const registries: TestRegistry[] = [];
let count = 0;

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'nymph-nydusd-registry-'));
  made = await makeBlobs(root);
  mkdirSync(join(root, 'layout', 'blobs'), { recursive: true });
  symlinkSync(made.blobs, join(root, 'layout', 'blobs', 'sha256'));
});
after(async () => {
  for (const registry of registries) await registry.close();
  rmSync(root, { recursive: true, force: true });
});

async function start(options: Partial<RegistryOptions> = {}): Promise<TestRegistry> {
  const registry = await startRegistry({ layouts: { 'team/app': join(root, 'layout') }, ...options });
  registries.push(registry);
  return registry;
}

function blob(config: object, configDirs: string[] = []): Source {
  const file = writeConfig(join(root, `${count++}.json`), 'registry', { repo: 'team/app', ...config });
  const options = { configDirs, credentials: join(root, 'no-logins.json') };
  return openRepository(nydusdReference(file, made.bootstrap), options).open({ digest: made.large.digest });
}

async function reads(source: Source): Promise<void> {
  const bytes = await collect(await source.read(1000, 5000, never));
  assert.ok(bytes.equals(made.large.bytes.subarray(1000, 6000)));
}

const brought = (registry: TestRegistry) =>
  registry.stats.log.some(({ headers }) => headers.authorization !== undefined);

test('the login is that of the file; without one there is none', async () => {
  const registry = await start({ faults: { auth: AUTH } });
  await reads(blob({ host: registry.host, auth }));
  await assert.rejects(blob({ host: registry.host }).read(0, 1, never), known({ code: 'denied' }));
  const wrong = blob({ host: registry.host, auth: Buffer.from('user:other').toString('base64') });
  await assert.rejects(wrong.read(0, 1, never), known({ code: 'denied', hint: /\d\.json was refused/ }));
});

test('a token comes first; when it is refused, the login', async () => {
  const registry = await start({ faults: { auth: AUTH } });
  const source = blob({ host: registry.host, auth, registry_token: 'a-token-of-yesterday' });
  await reads(source);
  assert.ok(registry.stats.log.some(({ headers }) => headers.authorization === 'Bearer a-token-of-yesterday'));
  registry.stats.requests = 0;
  await reads(source);
  assert.equal(registry.stats.requests, 1);
});

test('mirrors of the file are asked first, with their headers and the login', async () => {
  const registry = await start({ faults: { auth: AUTH } });
  const mirror = await start({ faults: { auth: AUTH } });
  const mirrors = [
    { host: `http://127.0.0.1:${await freePort()}`, failure_limit: 5 },
    { host: mirror.url, headers: { 'X-Dragonfly-Registry': registry.url } },
  ];
  await reads(blob({ host: registry.host, auth, mirrors }));
  assert.equal(registry.stats.requests, 0);
  assert.equal(mirror.stats.log[0].headers['x-dragonfly-registry'], registry.url);
  await mirror.close();
  await reads(blob({ host: registry.host, auth, mirrors }));
  assert.notEqual(registry.stats.blobs, 0);
});

test('mirrors of hosts.toml count, too, but do not get the login', async () => {
  const registry = await start({ faults: { auth: AUTH } });
  const mirror = await start({ faults: { auth: AUTH } });
  const directory = join(root, 'certs.d', registry.host);
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, 'hosts.toml'), `server = "${registry.url}"\n[host."${mirror.url}"]\n`);
  await reads(blob({ host: registry.host, auth }, [join(root, 'certs.d')]));
  assert.notEqual(mirror.stats.unauthorized, 0);
  assert.equal(mirror.stats.log.filter(({ headers }) => headers.authorization?.includes(auth)).length, 0);
  assert.ok(brought(registry));
});

test('redirected addresses are moved to the host that the file names', async () => {
  const registry = await start({ faults: { redirect: {} } });
  await reads(blob({ host: registry.host, blob_redirected_host: 'localhost' }));
  assert.match(String(registry.stats.log.at(-1)?.headers.host), /^localhost:/);
  assert.equal(registry.stats.storage, 1);
});

test('scheme and certificates are those of the file', async () => {
  const tls = { cert: TEST_CERTIFICATE, key: TEST_KEY };
  const registry = await start({ tls });
  const ca = join(root, 'ca.pem');
  writeFileSync(ca, TEST_CERTIFICATE);
  await reads(blob({ host: registry.host, scheme: 'https', ca_cert_files: [ca] }));
  await reads(blob({ host: registry.host, scheme: 'https', skip_verify: true }));
  const untrusted = blob({ host: registry.host, scheme: 'https' });
  await assert.rejects(untrusted.read(0, 1, never), known({ code: 'source', message: /not trusted/ }));
});

test('a proxy is asked first and left alone when it fails', async () => {
  const registry = await start();
  const proxy = await start();
  await reads(blob({ host: registry.host, proxy: { url: proxy.url } }));
  assert.equal(registry.stats.requests, 0);
  assert.match(proxy.stats.log[0].url, /^http:\/\//);
  await proxy.close();
  const source = blob({ host: registry.host, proxy: { url: proxy.url } });
  await reads(source);
  await reads(source);
  assert.equal(registry.stats.blobs, 2);
});
