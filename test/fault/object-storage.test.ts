/** Storages whose clocks, regions, names and keys are others than the configuration of nydusd says; and what lies in between. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { openRepository } from '../../src/sources/open.ts';
import type { Source } from '../../src/sources/source.ts';
import { freePort } from '../free-port.ts';
import { type MadeBlobs, makeBlobs, nydusdReference, writeConfig } from '../nydusd.ts';
import { TEST_CERTIFICATE, TEST_KEY } from '../registry/certificate.ts';
import { collect, known } from '../source-suite.ts';
import { type StorageOptions, startStorage, type TestStorage } from '../storage/storage.ts';

const KEYS = { id: 'key-id', secret: 'hidden-Secret/9' };
const TOKEN = 'hidden-Token';
const never = new AbortController().signal;

let root: string;
let made: MadeBlobs;
const servers: TestStorage[] = [];
const lines: string[] = [];
const note = (fields: object, message: string) => void lines.push(message, JSON.stringify(fields));
let count = 0;

before(async () => {
  root = mkdtempSync(join(tmpdir(), 'nymph-storage-'));
  made = await makeBlobs(root);
});
after(async () => {
  for (const server of servers) await server.close();
  rmSync(root, { recursive: true, force: true });
  assert.doesNotMatch(lines.join('\n'), /hidden-/, 'no secret comes into the log');
});

async function storage(options: Partial<StorageOptions> = {}): Promise<TestStorage> {
  const server = await startStorage({ kind: 's3', bucket: 'images', keys: KEYS, directory: made.blobs, ...options });
  servers.push(server);
  return server;
}

/** The large blob, by a configuration of its own. */
function blob(type: string, config: object): { source: Source; file: string } {
  const common = { bucket_name: 'images', scheme: 'http', access_key_id: KEYS.id, access_key_secret: KEYS.secret };
  const file = writeConfig(join(root, `${count++}.json`), type, { ...common, ...config });
  const log = { debug: note, warn: note };
  const repository = openRepository(nydusdReference(file, made.bootstrap), { configDirs: [], log });
  return { source: repository.open({ digest: made.large.digest }), file };
}

async function reads(source: Source, offset = 1000, length = 5000): Promise<void> {
  const bytes = await collect(await source.read(offset, length, never));
  assert.ok(bytes.equals(made.large.bytes.subarray(offset, offset + length)));
}

/** Fails as expected, and says nothing that it should not. */
async function refuses(source: Source, expected: Parameters<typeof known>[0]): Promise<void> {
  await assert.rejects(
    async () => collect(await source.read(0, 10, never)),
    (error: Error & { hint?: string }) => {
      assert.doesNotMatch(`${error.message} ${error.hint} ${error.cause}`, /hidden-/);
      return known(expected)(error);
    },
  );
}

for (const kind of ['s3', 'oss'] as const) {
  test(`${kind}: a clock that is wrong is found out once, also by many readers`, async () => {
    for (const clock of [7_200_000, -7_200_000]) {
      const server = await storage({ kind, faults: { clock } });
      const { source } = blob(kind, { endpoint: server.host });
      await Promise.all(Array.from({ length: 8 }, (_, i) => reads(source, i * 100, 100)));
      server.stats.requests = 0;
      await reads(source);
      assert.equal(server.stats.requests, 1);
      server.faults.clock = 0;
      await reads(source);
    }
  });

  test(`${kind}: a clock at the end of time is refused, and believed by nobody after`, async () => {
    const server = await storage({ kind, faults: { clock: 8.64e15 - Date.now() - 60_000 } });
    const { source } = blob(kind, { endpoint: server.host });
    await refuses(source, { code: 'denied', message: /RequestTimeTooSkewed/ });
    server.faults.clock = 0;
    await reads(source);
  });

  test(`${kind}: wrong keys are refused with a hint; right ones in the file count at once`, async () => {
    const server = await storage({ kind });
    const { source, file } = blob(kind, { endpoint: server.host, access_key_secret: 'hidden-other' });
    await refuses(source, {
      code: 'denied',
      retryable: false,
      message: /SignatureDoesNotMatch/,
      hint: /access_key_secret in .*\d\.json/,
    });
    const config = {
      endpoint: server.host,
      bucket_name: 'images',
      scheme: 'http',
      access_key_id: 'nobody',
      access_key_secret: 'x',
    };
    writeConfig(file, kind, config);
    await refuses(source, { code: 'denied', message: /InvalidAccessKeyId/ });
    writeConfig(file, kind, { ...config, access_key_id: KEYS.id, access_key_secret: KEYS.secret });
    await reads(source);
  });

  test(`${kind}: an expired session says so, and a new one counts at once`, async () => {
    const server = await storage({ kind, keys: { ...KEYS, token: TOKEN }, faults: { expired: true } });
    const { source, file } = blob(kind, { endpoint: server.host, session_token: TOKEN });
    await refuses(source, { code: 'denied', message: /Expired/, hint: /temporary keys have expired: write new ones/ });
    server.faults.expired = false;
    server.keys = { ...KEYS, token: 'hidden-next' };
    await refuses(source, { code: 'denied', message: /InvalidToken/ });
    writeConfig(file, kind, {
      endpoint: server.host,
      bucket_name: 'images',
      scheme: 'http',
      access_key_id: KEYS.id,
      access_key_secret: KEYS.secret,
      session_token: 'hidden-next',
    });
    await reads(source);
  });

  test(`${kind}: overload is a reason to wait, absence is none`, async () => {
    const server = await storage({ kind, faults: { status: { code: 503, retryAfter: '7', times: 1 } } });
    const { source } = blob(kind, { endpoint: server.host });
    await refuses(source, { code: 'source', retryable: true, retryAfter: 7000, message: /SlowDown/ });
    await reads(source);
    await refuses(blob(kind, { endpoint: server.host, bucket_name: 'others' }).source, {
      code: 'not-found',
      message: /NoSuchBucket/,
      hint: /bucket_name/,
    });
    await refuses(blob(kind, { endpoint: server.host, object_prefix: 'x/' }).source, {
      code: 'not-found',
      message: /NoSuchKey/,
      hint: /object_prefix/,
    });
  });
}

test('a bucket in another region says where; it is asked there from then on', async () => {
  const server = await storage({ region: 'eu-test-1' });
  const { source } = blob('s3', { endpoint: server.host });
  await reads(source);
  await reads(source);
  assert.equal(server.stats.requests, 3);
});

test('a storage that wants the bucket in the host’s name gets it there, signed so', async () => {
  const server = await storage({ faults: { hostedOnly: true } });
  const { source } = blob('s3', { endpoint: 'storage.test', proxy: { url: server.url } });
  await reads(source);
  assert.equal(server.stats.log.at(-1)?.headers.host, 'images.storage.test');
  const oss = await storage({ kind: 'oss' });
  await reads(blob('oss', { endpoint: 'storage.test', proxy: { url: oss.url } }).source);
  assert.equal(oss.stats.log.at(-1)?.headers.host, 'images.storage.test');
  assert.equal(oss.stats.requests, 1);
});

test('an endpoint that is no address is not gone to', async () => {
  const server = await storage();
  const { source } = blob('s3', { endpoint: server.host });
  server.faults.moved = { endpoint: `${server.host.split(':')[0]}:99999` };
  await refuses(source, { code: 'source', message: /PermanentRedirect/ });
  server.faults.moved = undefined;
  await reads(source);
});

test('a storage that names another endpoint of its own is followed there, but nobody else’s', async () => {
  const server = await storage({ faults: { moved: { endpoint: 'images.eu.storage.test', times: 1 } } });
  const { source } = blob('s3', { endpoint: 'storage.test', proxy: { url: server.url, fallback: false } });
  await reads(source);
  assert.equal(server.stats.log.at(-1)?.headers.host, 'images.eu.storage.test');
  await reads(source);
  assert.equal(server.stats.requests, 3);
  server.faults.moved = { endpoint: 'storage.evil' };
  await refuses(blob('s3', { endpoint: 'storage.test', proxy: { url: server.url, fallback: false } }).source, {
    code: 'source',
    message: /PermanentRedirect/,
  });
  assert.ok(server.stats.log.every(({ headers }) => String(headers.host).endsWith('storage.test')));
});

test('another host that is redirected to gets neither signature nor token', async () => {
  const elsewhere = await storage({ keys: undefined });
  const server = await storage({
    keys: { ...KEYS, token: TOKEN },
    faults: { location: { to: elsewhere.url } },
  });
  await reads(blob('s3', { endpoint: server.host, session_token: TOKEN }).source);
  const [{ headers }] = elsewhere.stats.log;
  assert.deepEqual(
    Object.keys(headers).filter((name) => name.startsWith('x-amz') || name === 'authorization'),
    [],
  );
  assert.equal(elsewhere.stats.blobs, 1);
});

test('a storage that redirects for ever is given up', async () => {
  const server = await storage();
  server.faults.location = { to: server.url };
  await refuses(blob('s3', { endpoint: server.host }).source, { code: 'source', message: /more than 5 times/ });
});

test('a proxy is asked first; where it fails or lies, the storage itself', async () => {
  const server = await storage();
  const proxy = await storage();
  const { source } = blob('s3', { endpoint: server.host, proxy: { url: proxy.url } });
  await reads(source);
  assert.equal(server.stats.requests, 0);
  assert.match(proxy.stats.log[0].url, /^http:\/\/127\.0\.0\.1/);
  // Its bytes were wrong: the chunk's digest says so.
  const stream = await source.read(0, 10, never);
  await collect(stream);
  source.distrust?.(stream);
  await reads(source);
  assert.equal(server.stats.requests, 1);

  const dead = `http://127.0.0.1:${await freePort()}`;
  await reads(blob('s3', { endpoint: server.host, proxy: { url: dead } }).source);
  await refuses(blob('s3', { endpoint: server.host, proxy: { url: dead, fallback: false } }).source, {
    code: 'source',
    retryable: true,
  });
});

test('certificates: the machine’s and those of ca_cert_files are trusted, others only with skip_verify', async () => {
  const server = await storage({ tls: { cert: TEST_CERTIFICATE, key: TEST_KEY } });
  const ca = join(root, 'ca.pem');
  writeFileSync(ca, TEST_CERTIFICATE);
  const config = { endpoint: server.host, scheme: 'https' };
  await refuses(blob('s3', config).source, { code: 'source', retryable: false, hint: /ca_cert_files/ });
  await reads(blob('s3', { ...config, ca_cert_files: [ca] }).source);
  await reads(blob('s3', { ...config, skip_verify: true }).source);
  await refuses(blob('s3', { ...config, ca_cert_files: [made.bootstrap] }).source, {
    code: 'config',
    message: /not a PEM/,
  });
  await refuses(blob('s3', { endpoint: server.host, scheme: 'http' }).source, { code: 'source' });
});

test('timeouts of the configuration count', async () => {
  const server = await storage({ faults: { latency: 0 } });
  const { source } = blob('s3', { endpoint: server.host, timeout: 1 });
  await reads(source);
  server.faults.blob = { kind: 'stall', after: 100 };
  await assert.rejects(
    async () => collect(await source.read(0, 5000, never)),
    known({ code: 'timeout', retryable: true }),
  );
});

test('a configuration that is broken or gone leaves the former one in force', async (t) => {
  const real = performance.now.bind(performance);
  let ahead = 0;
  t.mock.method(performance, 'now', () => real() + ahead);
  const server = await storage();
  const { source, file } = blob('s3', { endpoint: server.host });
  await reads(source);
  for (const breakIt of [() => writeFileSync(file, '{'), () => rmSync(file)]) {
    breakIt();
    ahead += 11_000;
    lines.length = 0;
    await reads(source);
    assert.match(lines.join('\n'), /going on with the former one/);
  }
  // A reader of a daemon that starts just now has no former one.
  const absent = openRepository(nydusdReference(file, made.bootstrap)).open({ digest: made.large.digest });
  await refuses(absent, { code: 'not-found', message: /the nydusd configuration .* does not exist/ });
});

test('an HTTP server: a socket that knows `/` alone is asked there, as nydusd asks', async () => {
  const socket = join(root, 'one.sock');
  const server = await startStorage({ directory: made.blobs, prefix: 'never/', socket });
  servers.push(server);
  await refuses(blob('http-proxy', { addr: socket }).source, { code: 'not-found' });
  assert.deepEqual(
    server.stats.log.map(({ url }) => url),
    [`/${made.large.digest.slice(7)}`, '/'],
  );
  await refuses(blob('http-proxy', { addr: join(root, 'nobody') }).source, { code: 'source', retryable: true });
});

test('localfs: files that are absent or empty are passed over, and named when there is none', async () => {
  const { source } = blob('localfs', { dir: join(root, 'nowhere'), alt_dirs: [made.blobs] });
  await reads(source);
  await reads(blob('localfs', { blob_file: join(made.blobs, made.large.digest.slice(7)) }).source);
  await refuses(blob('localfs', { dir: join(root, 'nowhere'), alt_dirs: [root] }).source, {
    code: 'not-found',
    message: /nowhere.* does not exist/,
  });
});
