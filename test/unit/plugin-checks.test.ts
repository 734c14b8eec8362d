import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, test } from 'node:test';
import { parseConfig } from '../../src/daemon/config.ts';
import type { NymphError } from '../../src/errors.ts';
import { checkDescription, checkLocation } from '../../src/plugins/check.ts';
import { hostMatches, isHostPattern, isPublicHost } from '../../src/plugins/hosts.ts';
import { limitModules, MAX_PAGES } from '../../src/plugins/limits.ts';
import { createListing } from '../../src/plugins/listing.ts';
import type { InstalledPlugin } from '../../src/plugins/plugin.ts';
import { parseRateLimit } from '../../src/sources/http/errors.ts';
import { isOwnAddress } from '../../src/sources/http/own-address.ts';
import { openHubFile } from '../../src/sources/hub/file.ts';
import { openHub } from '../../src/sources/hub/hub.ts';
import { formatReference, parseReference, pinnedDigest } from '../../src/sources/reference.ts';
import { createRegistryNetwork } from '../../src/sources/registry/network.ts';

/** What is believed of drivers, and of what they lead to. */

const HEADER = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0];
/** A function that grows memory 0 by so many pages, and its memory. */
function growing(limits: number[], pages: number[]): Uint8Array {
  const body = [0, 0x41, ...pages, 0x40, 0, 0x0b];
  return Uint8Array.from([
    ...HEADER,
    ...[1, 5, 1, 0x60, 0, 1, 0x7f],
    ...[3, 2, 1, 0],
    ...[5, limits.length + 1, 1, ...limits],
    ...[7, 8, 1, 4, ...Buffer.from('grow'), 0, 0],
    ...[10, body.length + 2, 1, body.length, ...body],
  ]);
}

function grow(module: Uint8Array): number {
  const { exports } = new WebAssembly.Instance(new WebAssembly.Module(module), {});
  return (exports.grow as () => number)();
}

describe('limits of memory', () => {
  test('a module cannot grow beyond its share, and nothing else of it changes', () => {
    const unlimited = growing([0, 1], [0x80, 0x08]);
    assert.equal(grow(unlimited), 1, 'it can without limits');
    const [large, small] = limitModules([growing([0, 2], [0xff, 0x06]), unlimited]);
    assert.equal(grow(small.module), -1);
    assert.equal(grow(limitModules([growing([0, 1], [15])])[0].module), 1);
    assert.equal(grow(large.module), -1);
    assert.ok(large.pages + small.pages <= MAX_PAGES);
    assert.deepEqual(limitModules([growing([1, 1, 3], [1])])[0].module, growing([1, 1, 3], [1]));
  });

  test('what cannot be limited is refused', () => {
    const cases: Uint8Array[] = [
      growing([3, 1, 2], [1]), // shared
      growing([4, 1], [1]), // 64 bits
      growing([0, 0x81, 0x07], [1]), // begins with 897 pages
      Uint8Array.from([...HEADER, 4, 6, 1, 0x70, 0, 0x81, 0x80, 0x04]), // a table of 65,537
      Uint8Array.from([...HEADER, 4, 9, 1, 0x40, 0, 0x70, 0, 1, 0xd0, 0x70, 0x0b]), // with an initial value
    ];
    for (const module of cases) assert.throws(() => limitModules([module]), { code: 'unsupported' });
    for (const broken of [[], HEADER.slice(1), [...HEADER, 5, 99, 1], [...HEADER, 5, 3, 1, 0, 0x80], [...HEADER, 5]])
      assert.throws(() => limitModules([Uint8Array.from(broken)]), { code: 'corrupt' });
  });
});

const DESCRIPTION = {
  scheme: 'shelf',
  endpoint: 'https://shelf.example/api/',
  redirects: ['CDN.example', '*.cdn.example:8443'],
  tokenHeaders: [['Private-Token', '{token}']],
};

describe('what a driver declares', () => {
  test('is taken in one form', () => {
    assert.deepEqual(checkDescription(DESCRIPTION), {
      scheme: 'shelf',
      endpoint: 'https://shelf.example/api',
      redirects: ['cdn.example', '*.cdn.example:8443'],
      tokenHeaders: [['private-token', '{token}']],
    });
  });

  test('is refused by name where it cannot be', () => {
    const wrong: [object, RegExp][] = [
      [{ scheme: 'https' }, /scheme "https"/],
      [{ scheme: '../x' }, /scheme "..\/x"/],
      [{ endpoint: 'http://shelf.example' }, /is not https/],
      [{ endpoint: 'file:///etc/passwd' }, /"file:\/\/\/etc\/passwd" is not https/],
      [{ endpoint: 'https://me:secret@shelf.example' }, /more than a host/],
      [{ endpoint: 'https://127.0.0.1' }, /not the name of a host in the internet/],
      [{ endpoint: 'https://169.254.169.254' }, /not the name of a host in the internet/],
      [{ endpoint: 'https://0x7f000001' }, /not the name of a host in the internet/],
      [{ endpoint: 'https://[::1]' }, /not the name of a host in the internet/],
      [{ endpoint: 'https://localhost' }, /not the name of a host in the internet/],
      [{ endpoint: 'https://metadata.google.internal' }, /not the name of a host in the internet/],
      [{ redirects: ['*'] }, /the redirect to "\*"/],
      [{ redirects: ['*.com'] }, /the redirect to "\*\.com"/],
      [{ redirects: ['10.0.0.1'] }, /the redirect to "10\.0\.0\.1"/],
      [{ redirects: ['a.example/b'] }, /the redirect to/],
      [{ redirects: 'a.example' }, /no list/],
      [{ tokenHeaders: [['host', '{token}']] }, /the token header "host" cannot/],
      [{ tokenHeaders: [['a\r\nb', '{token}']] }, /cannot carry a token/],
      [{ tokenHeaders: [['x', 'no token']] }, /must have \{token\} once/],
    ];
    for (const [change, expected] of wrong)
      assert.throws(() => checkDescription({ ...DESCRIPTION, ...change }), { code: 'corrupt', message: expected });
    for (const nonsense of [undefined, null, 7, []])
      assert.throws(() => checkDescription(nonsense), { code: 'corrupt' });
  });

  test('paths stay at the hub whatever a server makes of them', () => {
    const ok = ['/a', '/a/b?c=d%2Fe&f=..', '/%D0%B0', '/a..b/...'];
    for (const path of ok) {
      assert.equal(checkLocation('a driver', 'it', path), path);
      assert.equal(new URL(`https://hub.example/base${path}`).href, `https://hub.example/base${path}`);
    }
    for (const path of ['', 'a', '//a', '/\\a', '/a\\b', '/..', '/a/./b', '/a/.%2E', '/a b', '/a\n', '/ä', '/a#b', 7])
      assert.throws(() => checkLocation('a driver', 'it', path), { code: 'corrupt' }, String(path));
  });

  test('hosts and patterns', () => {
    for (const host of ['a.example', '*.a.example', 'xn--bcher-kva.example:8443']) assert.ok(isPublicHost(host), host);
    for (const host of ['a', 'a..b', '-a.example', '1.2.3.4', 'a.local', '*.example', '[::1]', 'a.example:', 'a b.c'])
      assert.ok(!isPublicHost(host), host);
    for (const host of ['localhost:5000', '10.0.0.1', '[fd00::1]:8080', '*.corp']) assert.ok(isHostPattern(host), host);
    const matches = (pattern: string, url: string) => hostMatches([pattern], new URL(url));
    assert.ok(matches('a.example', 'https://a.example/x'));
    assert.ok(matches('*.a.example', 'https://x.y.a.example/'));
    assert.ok(matches('a.example:8443', 'https://a.example:8443/'));
    assert.ok(!matches('a.example', 'https://a.example:8443/'));
    assert.ok(!matches('*.a.example', 'https://a.example/'));
    assert.ok(!matches('*.a.example', 'https://xa.example/'));
    assert.ok(!matches('a.example', 'https://a.example.evil.example/'));
  });
});

test('a listing is one document, whatever order and pages it comes in', () => {
  const file = (path: string, executable = false) => ({ path, size: 1n, location: `/${path}`, executable });
  const [a, b] = [createListing('d', 's'), createListing('d', 's')];
  a.add({ revision: 'r1', files: [file('b', true), file('a/c')] });
  assert.deepEqual(b.add({ files: [file('a/c')], next: { path: '/2' } }), { path: '/2' });
  assert.equal(b.add({ revision: 'r1', files: [file('b', true)] }), undefined);
  const listing = a.finish();
  assert.deepEqual(listing, b.finish());
  assert.equal(
    Buffer.from(listing.bytes).toString(),
    '{"schemaVersion":1,"revision":"r1","files":[{"path":"a/c","size":1,"location":"s:/a/c"},{"path":"b","size":1,"mode":493,"location":"s:/b"}]}',
  );
});

describe('addresses that names from outside may not lead to', () => {
  test('are those of this machine and its link, and those of clouds’ metadata', () => {
    for (const address of [
      '127.0.0.1',
      '127.9.9.9',
      '169.254.169.254',
      '0.0.0.0',
      '::1',
      'fe80::1',
      '::ffff:127.0.0.1',
      '100.100.100.200',
      '168.63.129.16',
      '192.0.0.192',
      '64:ff9b::a9fe:a9fe',
      '::ffff:100.100.100.200',
    ])
      assert.ok(isOwnAddress(address), address);
    for (const address of ['10.0.0.1', '192.168.1.1', '8.8.8.8', '2001:db8::1', 'a.example'])
      assert.ok(!isOwnAddress(address), address);
  });

  test('are not connected to, and need no retry', async (t) => {
    let asked = 0;
    const server = createServer((_, response) => {
      asked++;
      response.end();
    });
    await new Promise<void>((resolve) => server.listen(0, 'localhost', resolve));
    t.after(() => server.close());
    const { port } = server.address() as AddressInfo;
    const network = createRegistryNetwork({});
    t.after(() => network.close());
    const plugin: InstalledPlugin = {
      description: { ...checkDescription(DESCRIPTION), endpoint: `http://localhost:${port}` },
      glue: '',
      modules: [],
      sha256: '',
      directory: '/nowhere',
      builtIn: false,
    };
    const read = (endpoints: Record<string, string>) =>
      openHubFile(network, openHub(plugin, { endpoints }), 'shelf:/a', 1).read(0, 1, new AbortController().signal);
    await assert.rejects(read({}), (error: NymphError) => {
      assert.match(error.message, /localhost is an address of this machine, its link or its cloud/);
      assert.equal(error.retryable, false);
      return true;
    });
    assert.equal(asked, 0);
    await assert.rejects(read({ shelf: `http://localhost:${port}` }), /has 0 bytes|wrong range/);
    assert.equal(asked, 1, 'whoever runs nymph may name any host');
  });
});

test('what is left of a rate limit', () => {
  assert.equal(parseRateLimit('"api";r=0;t=55'), 55_000);
  assert.equal(parseRateLimit('"api";r=3;t=55'), undefined);
  assert.equal(parseRateLimit(undefined), undefined);
  assert.equal(parseRateLimit('r=0'), undefined);
});

test('references of hubs', () => {
  for (const text of ['hf://Qwen/Qwen2.5-0.5B@main', 'modelscope://a/b', 'my-hub://X y'.replace(' ', '%20')]) {
    const reference = parseReference(text, '/');
    assert.equal(reference.kind, 'hub');
    assert.equal(formatReference(reference), text);
    assert.equal(pinnedDigest(reference), undefined);
  }
  for (const text of ['hf://', 'hf://a b', 'https://a/b', 'docker://a/b', 'HF://a/b', 'a_b://c'])
    assert.throws(() => parseReference(text, '/'), { code: 'usage' }, text);
});

test('settings of hubs', () => {
  const config = parseConfig(
    `[hub]
endpoints = { hf = "https://mirror.example/hf" }
redirects = { hf = ["CDN.example", "10.0.0.1:8080"] }
[hub.token_files]
hf = "/etc/nymph/hf-token"
`,
    'config.toml',
  );
  assert.deepEqual(config.hub, {
    endpoints: { hf: 'https://mirror.example/hf' },
    redirects: { hf: ['cdn.example', '10.0.0.1:8080'] },
    tokenFiles: { hf: '/etc/nymph/hf-token' },
  });
  for (const [line, expected] of [
    ['endpoints = { hf = "mirror.example" }', /hub\.endpoints must be a table .*that of hf an address/],
    ['endpoints = { https = "https://a.example" }', /"https" is no scheme/],
    ['redirects = { hf = "a.example" }', /a list of `host`/],
    ['token_files = { hf = "token" }', /an absolute path/],
    ['token_file = { hf = "/token" }', /did you mean "token_files"/],
  ] as const)
    assert.throws(() => parseConfig(`[hub]\n${line}\n`, 'config.toml'), { code: 'config', message: expected });
});
