import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { OciDigest } from '../../src/image/image.ts';
import { openRepository } from '../../src/sources/open.ts';
import {
  createRegistryNetwork,
  type NetworkOptions,
  type RegistryNetwork,
} from '../../src/sources/registry/network.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../registry/certificate.ts';
import { type MadeLayout, makeLayout } from '../registry/layout.ts';
import { type RegistryOptions, startRegistry, type TestRegistry } from '../registry/registry.ts';
import { collect, known } from '../source-suite.ts';

let directory: string;
let layout: MadeLayout;
const never = new AbortController().signal;
const closers: (() => Promise<void>)[] = [];

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-registry-'));
  layout = await makeLayout(join(directory, 'layout'), [600_000, 10_000]);
});
after(() => rm(directory, { recursive: true, force: true }));
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function registry(
  faults: RegistryOptions['faults'] = {},
  more: Partial<RegistryOptions> = {},
): Promise<TestRegistry> {
  const started = await startRegistry({ layouts: { app: layout.path, other: layout.path }, faults, ...more });
  closers.push(() => started.close());
  return started;
}

function network(options: NetworkOptions = {}): RegistryNetwork {
  const made = createRegistryNetwork({ configDirs: [], credentials: join(directory, 'no-credentials'), ...options });
  closers.push(() => made.close());
  return made;
}

async function credentials(host: string, entry: object): Promise<string> {
  const path = join(directory, `${Math.random()}.json`);
  await writeFile(path, JSON.stringify({ auths: { [host]: entry } }));
  return path;
}

/** Configures `host` to have these mirrors, and returns the directory. */
async function mirrors(host: string, toml: string): Promise<string> {
  const path = join(directory, `certs-${Math.random()}`);
  await mkdir(join(path, host), { recursive: true });
  await writeFile(join(path, host, 'hosts.toml'), toml);
  return path;
}

const open = (host: string, net: RegistryNetwork, name = 'app') => openRepository(`${host}/${name}`, { network: net });
const [large, small] = [0, 1];
const blob = (i: number) => layout.blobs[i];
const read = async (source: ReturnType<ReturnType<typeof open>['open']>, offset = 1000, length = 5000) => {
  const bytes = await collect(await source.read(offset, length, never));
  assert.ok(bytes.equals(blob(large).bytes.subarray(offset, offset + length)));
};
const basic = (text: string) => ({ auth: Buffer.from(text).toString('base64') });

test('anonymous tokens: one for many reads, one for each repository', async () => {
  const server = await registry({ auth: { kind: 'token' } });
  const net = network();
  const source = open(server.host, net).open(blob(large));
  await Promise.all(Array.from({ length: 10 }, () => read(source)));
  await read(source);
  assert.equal(server.stats.tokens, 1);
  await read(open(server.host, net, 'other').open(blob(large)));
  assert.equal(server.stats.tokens, 2);
});

test('a token that was refused is replaced, once for all readers', async () => {
  const server = await registry({ auth: { kind: 'token' } });
  const source = open(server.host, network()).open(blob(large));
  await read(source);
  server.revokeTokens();
  await Promise.all(Array.from({ length: 10 }, () => read(source)));
  assert.equal(server.stats.tokens, 2);
});

test('a token is renewed before it expires, without a refused request', async () => {
  const server = await registry({ auth: { kind: 'token', lifetime: 0.4 } });
  const source = open(server.host, network()).open(blob(large));
  await read(source);
  const { unauthorized } = server.stats;
  for (const end = Date.now() + 1200; Date.now() < end; await sleep(20)) await read(source);
  assert.equal(server.stats.unauthorized, unauthorized);
  assert.ok(server.stats.tokens >= 3 && server.stats.tokens <= 8, `${server.stats.tokens} tokens`);
});

test('tokens for a user, and with an identity token', async () => {
  const server = await registry({ auth: { kind: 'token', username: 'me', password: 'pass:word' } });
  await read(
    open(server.host, network({ credentials: await credentials(server.host, basic('me:pass:word')) })).open(
      blob(large),
    ),
  );
  const wrong = open(server.host, network({ credentials: await credentials(server.host, basic('me:hunter2')) }));
  await assert.rejects(wrong.open(blob(large)).read(0, 1, never), (error) => {
    assert.doesNotMatch(`${error} ${(error as Error).cause}`, /hunter2|aHVudGVyMg/);
    return known({ code: 'denied', retryable: false })(error);
  });
  await assert.rejects(open(server.host, network()).resolve(never), known({ code: 'denied' }));

  const oauth = await registry({ auth: { kind: 'token', identityToken: 'refresh-me' } });
  const file = await credentials(oauth.host, { identitytoken: 'refresh-me' });
  await read(open(oauth.host, network({ credentials: file })).open(blob(large)));
  assert.equal(oauth.stats.log.filter((entry) => entry.method === 'POST' && entry.url === '/token').length, 1);
});

test('a password', async () => {
  const server = await registry({ auth: { kind: 'basic', username: 'me', password: 'hunter2' } });
  const good = network({ credentials: await credentials(server.host, basic('me:hunter2')) });
  const source = open(server.host, good).open(blob(large));
  await read(source);
  await read(source);
  assert.equal(server.stats.unauthorized, 1, 'the password is sent at once after the first time');
  const missing = open(server.host, network()).open(blob(large)).read(0, 1, never);
  await assert.rejects(missing, known({ code: 'denied', hint: /docker login/ }));
  const wrong = network({ credentials: await credentials(server.host, basic('me:wrong')) });
  await assert.rejects(open(server.host, wrong).open(blob(large)).read(0, 1, never), known({ code: 'denied' }));
});

test('a failing token endpoint can be tried again', async () => {
  const server = await registry({
    auth: { kind: 'token' },
    status: { on: 'token', code: 503, retryAfter: '0', times: 1 },
  });
  const repository = open(server.host, network());
  await assert.rejects(repository.open(blob(large)).read(0, 1, never), known({ code: 'source', retryable: true }));
  await read(repository.open(blob(large)));
});

test('object storage: no Authorization, its address kept while it works', async () => {
  const server = await registry({ auth: { kind: 'token' }, redirect: { uses: 3 } });
  const net = network();
  const source = open(server.host, net).open(blob(large));
  for (let i = 0; i < 9; i++) await read(source, i * 1000);
  assert.equal(server.stats.leaked, 0);
  // Three addresses of three uses each: 9 reads, 2 refusals, and 1 request more for the first token.
  assert.deepEqual([server.stats.blobs, server.stats.storage], [3, 11]);
  for (const status of [301, 302, 303, 308] as const) {
    server.faults.redirect = { status };
    await read(open(server.host, net).open(blob(large)));
  }
});

test('redirects without an end, to nowhere, or to elsewhere than HTTP, are errors', async () => {
  let location: string | undefined;
  const server = createServer((_request, response) => {
    response.writeHead(307, location === undefined ? {} : { location }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(async () => void server.close().closeAllConnections());
  const source = open(`127.0.0.1:${(server.address() as AddressInfo).port}`, network()).open(blob(large));
  for (const [to, message] of [
    [undefined, /nowhere/],
    ['', /nowhere/],
    ['http://', /nowhere/],
    ['file:///etc/passwd', /a file: address/],
    ['/v2/again?token=hunter2', /more than 5 times/],
  ] as const) {
    location = to;
    await assert.rejects(source.read(0, 1, never), (error) => {
      assert.doesNotMatch(String(error), /hunter2/);
      return known({ code: 'source', message })(error);
    });
  }
});

test('mirrors: asked first, with ns; the registry when a mirror lacks or refuses the object', async () => {
  const [mirror, upstream] = [await registry({}, { layouts: { app: layout.path } }), await registry()];
  const configDir = await mirrors(
    'registry.test:5000',
    `server = "${upstream.url}"\n[host."${mirror.url}"]\ncapabilities = ["pull"]\n[host."${mirror.url}".header]\nx-key = "k"\n`,
  );
  const net = network({ configDirs: [configDir] });
  const repository = open('registry.test:5000', net);
  assert.equal((await repository.resolve(never)).descriptor.digest, layout.manifest.digest);
  assert.deepEqual(
    [mirror.stats.manifests, upstream.stats.manifests],
    [0, 1],
    'a mirror without `resolve` names no digest',
  );
  await repository.manifest(layout.manifest.digest, never);
  assert.equal(mirror.stats.manifests, 1);
  await read(repository.open(blob(large)));
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [1, 0]);
  assert.match(mirror.stats.log.at(-1)!.url, /\?ns=registry\.test%3A5000$/);
  assert.equal(mirror.stats.log.at(-1)!.headers['x-key'], 'k');

  const lacking = open('registry.test:5000', net, 'other').open(blob(large));
  await read(lacking);
  await read(lacking);
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [2, 2], 'what a mirror lacks is not asked of it again');
  assert.equal(upstream.stats.log.at(-1)!.headers['x-key'], undefined);
  assert.ok(net.report().every((host) => host.failures === 0));
});

test('mirrors: one that fails rests, and its health shows; it comes back', async () => {
  const [mirror, upstream] = [await registry(), await registry()];
  const net = network({
    configDirs: [await mirrors('registry.test', `server = "${upstream.url}"\n[host."${mirror.url}"]\n`)],
  });
  const source = open('registry.test', net).open(blob(large));
  mirror.faults.status = { code: 500, times: 1 };
  await read(source);
  await read(source);
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [1, 2]);
  const health = net.report().find((host) => host.url.startsWith(mirror.url))!;
  assert.equal(health.failures, 1);
  assert.ok(health.restingFor! > 0);
  assert.match(health.lastError!, /status 500/);
  await sleep(health.restingFor! + 5);
  await read(source);
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [2, 2]);
  assert.equal(net.report().find((host) => host.url.startsWith(mirror.url))!.failures, 0);
});

test('mirrors: absent ones cost no error; a distrusted one is asked last', async () => {
  const [gone, mirror, upstream] = [await registry(), await registry(), await registry()];
  await gone.close();
  const toml = `server = "${upstream.url}"\n[host."${gone.url}"]\n[host."${mirror.url}"]\n`;
  const source = open('registry.test', network({ configDirs: [await mirrors('registry.test', toml)] })).open(
    blob(large),
  );
  const wrong = await source.read(0, 100, never);
  await collect(wrong);
  source.distrust?.(wrong);
  const right = await source.read(0, 100, never);
  await collect(right);
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [1, 1]);
  // What is said late of the first stream does not fall on who sent the second.
  source.distrust?.(wrong);
  await read(source);
  assert.deepEqual([mirror.stats.blobs, upstream.stats.blobs], [1, 2]);
});

test('all fail: the error says what each said, and is retryable if one is', async () => {
  const [mirror, upstream] = [await registry({ status: { code: 500 } }), await registry({}, { layouts: {} })];
  const net = network({
    configDirs: [await mirrors('registry.test', `server = "${upstream.url}"\n[host."${mirror.url}"]\n`)],
  });
  const source = open('registry.test', net).open(blob(large));
  const both = known({ code: 'source', retryable: true, message: /status 500.*status 404/ });
  await assert.rejects(source.read(0, 1, never), both);
  await assert.rejects(source.read(0, 1, never), known({ code: 'not-found', retryable: false }));
});

test('a configuration that becomes wrong does not stop readers; one that is wrong from the start does', async () => {
  const server = await registry();
  const configDir = await mirrors('registry.test', 'server = ');
  const repository = open('registry.test', network({ configDirs: [configDir] }));
  await assert.rejects(repository.resolve(never), known({ code: 'config', message: /hosts\.toml/ }));
  await writeFile(join(configDir, 'registry.test/hosts.toml'), `server = "${server.url}"`);
  await repository.resolve(never);
});

test('TLS: with a CA of hosts.toml, refused without, not checked on demand', async () => {
  const server = await registry({ redirect: {} }, { tls: { cert: TEST_CERTIFICATE, key: TEST_KEY } });
  const own = await mirrors(server.host, `server = "${server.url}"\nca = "ca.pem"\n`);
  await writeFile(join(own, server.host, 'ca.pem'), TEST_CERTIFICATE);
  await read(open(server.host, network({ configDirs: [own] })).open(blob(large)));
  const skip = await mirrors(server.host, `server = "${server.url}"\nskip_verify = true\n`);
  await read(open(server.host, network({ configDirs: [skip] })).open(blob(large)));
  const none = await mirrors(server.host, `server = "${server.url}"\n`);
  const refused = open(server.host, network({ configDirs: [none] }))
    .open(blob(large))
    .read(0, 1, never);
  await assert.rejects(
    refused,
    known({ code: 'source', retryable: false, message: /not trusted/, hint: /hosts\.toml/ }),
  );
  const wrongCa = await mirrors(server.host, `server = "${server.url}"\nca = "ca.pem"\n`);
  await writeFile(
    join(wrongCa, server.host, 'ca.pem'),
    '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n',
  );
  const broken = open(server.host, network({ configDirs: [wrongCa] }))
    .open(blob(large))
    .read(0, 1, never);
  await assert.rejects(broken, known({ code: 'config' }));
});

test('a plain HTTP registry that is spoken to in TLS: what to do', async () => {
  const server = await registry();
  const configDir = await mirrors(server.host, `server = "https://${server.host}"\n`);
  const refused = open(server.host, network({ configDirs: [configDir] }))
    .open(blob(large))
    .read(0, 1, never);
  await assert.rejects(refused, known({ code: 'source', hint: /plain_http/ }));
});

test('small objects are tried again, and the wait that is asked for is kept', async () => {
  const server = await registry({ status: { code: 503, times: 2, retryAfter: '0' } });
  const repository = open(server.host, network());
  const { digest, bytes } = blob(small);
  assert.deepEqual(Buffer.from(await repository.get({ digest, size: bytes.length }, 1 << 20, never)), bytes);
  server.faults.status = { code: 429, times: 1, retryAfter: '1' };
  const started = performance.now();
  await repository.resolve(never);
  assert.ok(performance.now() - started >= 990);
  server.faults.status = { code: 429, retryAfter: '3000' };
  await assert.rejects(repository.resolve(never), known({ code: 'source', retryable: true, retryAfter: 3_000_000 }));
});

test('manifests: a wrong digest of the server, wrong bytes and no manifest at all are noticed', async () => {
  const bad = await makeLayout(join(directory, 'bad'), [100]);
  const hex = bad.manifest.digest.slice(7);
  const server = await registry({}, { layouts: { app: bad.path } });
  await writeFile(join(bad.path, 'blobs/sha256', hex), Buffer.concat([bad.manifest.bytes, Buffer.from(' ')]));
  const repository = open(server.host, network());
  await assert.rejects(repository.resolve(never), known({ code: 'corrupt', message: /digest/ }));
  await assert.rejects(repository.manifest(`sha256:${hex}`, never), known({ code: 'corrupt' }));
  await assert.rejects(
    open(server.host, network(), 'none').resolve(never),
    known({ code: 'not-found', message: /MANIFEST_UNKNOWN/ }),
  );
});

test('requests say who asks, and want bytes as they are', async () => {
  const server = await registry();
  const repository = open(server.host, network({ userAgent: 'nymph/1' }));
  await repository.resolve(never);
  await read(repository.open(blob(large)));
  const [manifest, range] = server.stats.log;
  assert.match(String(manifest.headers.accept), /oci\.image\.index.*docker\.distribution\.manifest\.list/);
  for (const { headers } of [manifest, range]) {
    assert.equal(headers['user-agent'], 'nymph/1');
    assert.equal(headers['accept-encoding'], 'identity');
  }
  assert.equal(range.headers.range, 'bytes=1000-5999');
});

test('at most 16 connections to a host, and they are used again', async () => {
  const server = await registry({ latency: 5 });
  const source = open(server.host, network()).open(blob(large));
  for (let round = 0; round < 3; round++) await Promise.all(Array.from({ length: 50 }, () => read(source)));
  assert.ok(server.stats.connections <= 16, `${server.stats.connections} connections`);
});

test('without a network of its own, close ends the connections', async () => {
  const server = await registry();
  const repository = openRepository(`${server.host}/app`, { configDirs: [] });
  await repository.resolve(never);
  assert.equal(server.stats.openConnections, 1);
  await repository.close();
  for (let i = 0; i < 100 && server.stats.openConnections > 0; i++) await sleep(5);
  assert.equal(server.stats.openConnections, 0);
});

test('a digest that names nothing', async () => {
  const server = await registry();
  const digest: OciDigest = `sha256:${'0'.repeat(64)}`;
  const wanted = open(server.host, network()).get({ digest, size: 5 }, 10, never);
  await assert.rejects(wanted, known({ code: 'not-found', message: /BLOB_UNKNOWN/ }));
});

test('where others get a blob: the registry itself, with our login, its headers and certificates', async () => {
  const server = await registry({ auth: { kind: 'token' } });
  const net = network();
  const source = open(server.host, net).open(blob(large));
  const url = `${server.url}/v2/app/blobs/${blob(large).digest}`;
  const get = async ({ headers, url: address }: { headers: Record<string, string>; url: URL }) =>
    (await fetch(address, { headers })).status;
  const bare = await source.location!(never, 0);
  assert.equal(bare?.url.href, url);
  assert.equal(bare.headers.authorization, undefined, 'it has not asked for a login yet');
  const refused = await source.location!(never, 1);
  assert.equal(await get(refused!), 200);
  assert.deepEqual(await source.location!(never, 0), refused);
  server.revokeTokens();
  assert.equal(await get(refused!), 401);
  assert.equal(await get((await source.location!(never, 1))!), 200);

  const own = await mirrors(
    server.host,
    `server = "https://${server.host}"\nca = "ca.pem"\n[header]\nX-Team = ["a", "b"]\n[host."http://mirror.example:5000"]\n`,
  );
  await writeFile(join(own, server.host, 'ca.pem'), TEST_CERTIFICATE);
  const configured = await open(server.host, network({ configDirs: [own] })).open(blob(large)).location!(never, 0);
  assert.equal(configured?.url.href, url.replace('http:', 'https:'), 'no mirror');
  assert.equal(configured.headers['x-team'], 'a, b');
  assert.deepEqual(configured.certificates, [TEST_CERTIFICATE]);

  const lent = await mirrors(server.host, `server = "https://${server.host}"\nclient = [["c.pem", "k.pem"]]\n`);
  await writeFile(join(lent, server.host, 'c.pem'), TEST_CERTIFICATE);
  await writeFile(join(lent, server.host, 'k.pem'), TEST_KEY);
  const withClient = open(server.host, network({ configDirs: [lent] })).open(blob(large));
  assert.equal(await withClient.location!(never, 0), undefined, 'a client certificate cannot be lent');
});
