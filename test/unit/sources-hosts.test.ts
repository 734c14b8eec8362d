import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../../src/errors.ts';
import { createHealthBook } from '../../src/sources/http/health.ts';
import { proxyFromEnvironment } from '../../src/sources/http/proxy.ts';
import { readEndpoints } from '../../src/sources/registry/hosts.ts';
import { parseHostsFile } from '../../src/sources/registry/hosts-file.ts';
import { known } from '../source-suite.ts';

let root: string;
let count = 0;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'nymph-hosts-'));
});
after(() => rm(root, { recursive: true, force: true }));

async function configDir(files: Record<string, string>): Promise<string> {
  const directory = join(root, String(count++));
  await mkdir(directory);
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(directory, name)), { recursive: true });
    await writeFile(join(directory, name), text);
  }
  return directory;
}
const urls = async (host: string, directory: string, plain: string[] = []) =>
  (await readEndpoints(host, [directory], plain)).map((endpoint) => endpoint.url.href);

const PEM = '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n';

test('a host without configuration', async () => {
  const none = join(root, 'none');
  assert.deepEqual(await urls('registry.example', none), ['https://registry.example/v2']);
  assert.deepEqual(await urls('docker.io', none), ['https://registry-1.docker.io/v2']);
  assert.deepEqual(await urls('registry.example:5000', none, ['registry.example:5000']), [
    'http://registry.example:5000/v2',
  ]);
  assert.deepEqual(await urls('registry.example:5001', none, ['registry.example']), [
    'http://registry.example:5001/v2',
  ]);
  assert.deepEqual(await urls('registry.example:5001', none, ['registry.example:5000']), [
    'https://registry.example:5001/v2',
  ]);
  for (const host of ['localhost', 'localhost:5000', '127.0.0.1:5000', '127.9.9.9:80', '[::1]:5000'])
    assert.match((await urls(host, none))[0], /^http:/, host);
  for (const host of ['localhost:443', '128.0.0.1:5000', 'localhost.example'])
    assert.match((await urls(host, none))[0], /^https:/, host);
  const [only] = await readEndpoints('registry.example', [none], []);
  assert.deepEqual([only.upstream, only.resolve, only.pull, only.ns], [true, true, true, undefined]);
});

test('mirrors come in the order of the file, the registry last', async () => {
  const directory = await configDir({
    'docker.io/hosts.toml': `
server = "https://docker.io"
[host."https://mirror-2.example/prefix"]
  capabilities = ["pull"]
[host."http://mirror-1.example:5000"]
  capabilities = ["pull", "resolve"]
  dial_timeout = "1.5s"
  [host."http://mirror-1.example:5000".header]
    X-Name = "one"
    x-many = ["a", "b"]
[host."https://mirror-3.example/dockerhub"]
  override_path = true
  skip_verify = true
`,
  });
  const [two, one, three, upstream] = await readEndpoints('docker.io', [directory], []);
  assert.equal(two.url.href, 'https://mirror-2.example/prefix/v2');
  assert.deepEqual([two.resolve, two.pull, two.ns, two.upstream], [false, true, 'docker.io', false]);
  assert.equal(one.url.href, 'http://mirror-1.example:5000/v2');
  assert.deepEqual([one.resolve, one.connectTimeout], [true, 1500]);
  assert.deepEqual(one.headers, { 'x-name': ['one'], 'x-many': ['a', 'b'] });
  assert.equal(three.url.href, 'https://mirror-3.example/dockerhub');
  assert.equal(three.tls?.skipVerify, true);
  assert.equal(upstream.url.href, 'https://registry-1.docker.io/v2');
  assert.equal(upstream.ns, undefined);
  assert.equal(upstream.upstream, true);
});

test('a registry that is listed among its own mirrors is not asked twice', async () => {
  const directory = await configDir({ 'r.io/hosts.toml': '[host."https://r.io"]\n[host."https://m.io"]\n' });
  assert.deepEqual(await urls('r.io', directory), ['https://m.io/v2', 'https://r.io/v2']);
});

test('directories: host_port_, host:port, _default; the first that exists counts', async () => {
  const toml = (name: string) => `[host."https://${name}"]\n`;
  const directory = await configDir({
    'r.io:5000/hosts.toml': toml('colon'),
    'r.io_5000_/hosts.toml': toml('underscore'),
    'q.io:5000/hosts.toml': toml('colon'),
    '_default/hosts.toml': toml('default'),
  });
  const first = async (host: string) => (await urls(host, directory))[0];
  assert.equal(await first('r.io:5000'), 'https://underscore/v2');
  assert.equal(await first('q.io:5000'), 'https://colon/v2');
  assert.deepEqual(await urls('else.io', directory), ['https://default/v2', 'https://else.io/v2']);
});

test('certificates: of hosts.toml relative to it, and as Docker has them', async () => {
  const directory = await configDir({
    'r.io/hosts.toml':
      'ca = "own.pem"\n[host."https://m.io"]\nca = ["own.pem"]\nclient = [["c.pem", "k.pem"], "both.pem"]\n',
    'r.io/own.pem': PEM,
    'r.io/c.pem': PEM,
    'r.io/k.pem': PEM,
    'r.io/both.pem': PEM,
    'd.io/ca.crt': PEM,
    'd.io/me.cert': PEM,
    'd.io/me.key': PEM,
    'localhost:5000/ca.crt': PEM,
  });
  const [mirror, upstream] = await readEndpoints('r.io', [directory], []);
  assert.deepEqual(mirror.tls?.ca, [PEM]);
  assert.equal(mirror.tls?.client?.length, 2);
  assert.deepEqual(upstream.tls?.ca, [PEM]);
  assert.notEqual(mirror.tls?.id, upstream.tls?.id);
  const [docker] = await readEndpoints('d.io', [directory], []);
  assert.deepEqual([docker.tls?.ca, docker.tls?.client], [[PEM], [{ cert: PEM, key: PEM }]]);
  const [local] = await readEndpoints('localhost:5000', [directory], []);
  assert.equal(local.url.protocol, 'https:');
  await rm(join(directory, 'r.io/k.pem'));
  await assert.rejects(readEndpoints('r.io', [directory], []), known({ code: 'config', message: /k\.pem/ }));
});

test('wrong files name the file and the field', () => {
  const cases: [string, RegExp][] = [
    ['server = ', /hosts\.toml/],
    ['server = 5', /server/],
    ['server = "ftp://x"', /server/],
    ['server = "https://user:secret@x"', /server/],
    ['host = 5', /host/],
    ['[host."https://a b"]', /host/],
    ['[host."https://m.io"]\ncapabilities = 5', /capabilities of m\.io/],
    ['[host."https://m.io"]\nca = [5]', /ca of m\.io/],
    ['[host."https://m.io"]\nclient = [["a","b","c"]]', /client of m\.io/],
    ['[host."https://m.io"]\nskip_verify = "yes"', /skip_verify/],
    ['[host."https://m.io"]\ndial_timeout = "soon"', /dial_timeout/],
    ['[host."https://m.io"]\n[host."https://m.io".header]\nx = "a\\nb"', /header/],
  ];
  for (const [text, why] of cases)
    assert.throws(
      () => parseHostsFile(text, '/etc/hosts.toml', new URL('https://r.io/v2')),
      (error) => known({ code: 'config', message: why })(error) && !String(error).includes('secret'),
      text,
    );
});

test('health: rests grow with failures, are cut short by success, and end', () => {
  let now = 1000;
  const book = createHealthBook(
    () => now,
    () => 1,
  );
  const error = new NymphError('source', 'connection refused', { retryable: true });
  assert.equal(book.isResting('m'), false);
  const rests: number[] = [];
  for (let i = 0; i < 9; i++) {
    book.failed('m', error);
    book.failed('m', error);
    rests.push(book.report()[0].restingFor!);
    assert.equal(book.isResting('m'), true);
    now += book.report()[0].restingFor!;
    assert.equal(book.isResting('m'), false);
  }
  assert.deepEqual(
    rests,
    [1, 2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => seconds * 1000),
  );
  book.received('m', 50);
  assert.deepEqual(book.report(), [
    { url: 'm', failures: 9, lastError: 'connection refused', requests: 18, bytes: 50 },
  ]);
  book.succeeded('m');
  assert.equal(book.report()[0].failures, 0);
  book.failed('m', new NymphError('source', 'busy', { retryable: true, retryAfter: 120_000 }));
  assert.equal(book.report()[0].restingFor, 120_000);
});

test('health: a rest ends though the clock was set back meanwhile', async (t) => {
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() });
  const book = createHealthBook();
  book.failed('a', new NymphError('source', 'refused'));
  t.mock.timers.setTime(Date.now() - 86_400_000);
  assert.ok(book.isResting('a'));
  for (let tries = 0; book.isResting('a'); tries++) {
    assert.ok(tries < 1_000, 'it rests as long as the clock was set back');
    await sleep(20);
  }
});

test('health: chance shortens a rest by up to half', () => {
  const book = createHealthBook(
    () => 0,
    () => 0,
  );
  book.failed('m', new NymphError('source', 'x'));
  assert.equal(book.report()[0].restingFor, 500);
});

test('proxies of the environment', () => {
  const through = (env: Record<string, string>, url: string) => proxyFromEnvironment(env)(new URL(url));
  assert.equal(through({}, 'https://r.io'), undefined);
  assert.equal(through({ HTTPS_PROXY: 'http://p:1' }, 'https://r.io'), 'http://p:1');
  assert.equal(through({ HTTPS_PROXY: 'p:1' }, 'https://r.io'), 'http://p:1');
  assert.equal(through({ HTTPS_PROXY: 'http://p:1' }, 'http://r.io'), undefined);
  assert.equal(through({ HTTP_PROXY: 'http://a:1', http_proxy: 'http://b:1' }, 'http://r.io'), 'http://b:1');
  const all = (NO_PROXY: string, url: string) =>
    through({ HTTP_PROXY: 'http://p:1', HTTPS_PROXY: 'http://p:1', NO_PROXY }, url);
  for (const url of ['http://localhost:5000', 'http://127.0.0.5', 'http://[::1]:80'])
    assert.equal(all('', url), undefined);
  for (const [list, url] of [
    ['*', 'https://r.io'],
    ['r.io', 'https://r.io'],
    ['r.io', 'https://a.r.io:5000'],
    ['.r.io', 'https://a.r.io'],
    ['*.r.io', 'https://a.r.io'],
    ['x, r.io:443', 'https://r.io'],
    ['10.0.0.0/8', 'http://10.1.2.3:5000'],
    ['10.1.2.3', 'http://10.1.2.3:5000'],
    ['fd00::/8', 'http://[fd00::1]:5000'],
    ['fd00::1', 'http://[fd00::1]:5000'],
  ])
    assert.equal(all(list, url), undefined, `${list} ${url}`);
  for (const [list, url] of [
    ['.r.io', 'https://r.io'],
    ['r.io', 'https://er.io'],
    ['r.io:80', 'https://r.io'],
    ['10.0.0.0/8', 'http://11.1.2.3'],
    ['10.0.0.0/99', 'http://10.1.2.3'],
  ])
    assert.equal(all(list, url), 'http://p:1', `${list} ${url}`);
});
