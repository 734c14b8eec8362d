import assert from 'node:assert/strict';
import { cp, mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DriverAnswer, InstalledPlugin } from '../../src/plugins/plugin.ts';
import { DRIVER_LIMITS, listRepository } from '../../src/plugins/run.ts';
import { addPlugin, findPlugin, listPlugins, removePlugin } from '../../src/plugins/store.ts';
import { openRepository } from '../../src/sources/open.ts';
import { createRegistryNetwork } from '../../src/sources/registry/network.ts';
import { componentizerOrSkip } from '../hub/drivers.ts';
import { noise, sha256 } from '../hub/files.ts';
import { refused } from '../refused.ts';
import { collect } from '../source-suite.ts';

/** Drivers as components: the one of the documentation, and ones that trap, loop, eat memory and lie. */

const never = new AbortController().signal;
let directory: string;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-plugins-'));
});
after(() => rm(directory, { recursive: true, force: true }));

test('the driver of docs/plugins.md is built, added, lists and reads; it has at most 40 lines', async (t) => {
  const componentizer = await componentizerOrSkip(t);
  if (componentizer === undefined) return;
  const page = await readFile(new URL('../../docs/plugins.md', import.meta.url), 'utf8');
  const source = /```ts\n(.*?)```/s.exec(page)![1];
  assert.ok(
    source
      .trim()
      .split('\n')
      .filter((line) => line !== '').length <= 40,
  );
  const file = join(directory, 'shelf.ts');
  await writeFile(file, source);
  const component = await componentizer.componentize(file);
  const plugins = join(directory, 'shelf-plugins');
  const plugin = await addPlugin(component, plugins, false);
  assert.deepEqual(
    { scheme: plugin.description.scheme, sha256: plugin.sha256 },
    { scheme: 'shelf', sha256: sha256(component) },
  );
  assert.deepEqual(
    (await listPlugins(plugins)).filter(({ builtIn }) => !builtIn).map(({ description }) => description.endpoint),
    ['https://shelf.example'],
  );
  assert.equal((await refused(addPlugin(component, plugins, false))).code, 'exists');
  await addPlugin(component, plugins, true);

  const files: Record<string, Buffer> = { 'a b/ü.bin': noise('a', 100_000), 'config.json': Buffer.from('{}') };
  const tokens = new Set<string | undefined>();
  const server = createServer((request, response) => {
    tokens.add(request.headers.authorization);
    const url = new URL(request.url ?? '', 'http://shelf');
    if (url.pathname === '/base/repos/team/model/revisions/v2') return response.end('{"commit":"c0ffee"}');
    if (url.pathname === '/base/repos/team/model/files') {
      const at = Number(url.searchParams.get('cursor') ?? 0);
      const [path, bytes] = Object.entries(files)[at];
      const entry = { path, size: bytes.length, sha256: sha256(bytes) };
      return response.end(JSON.stringify({ files: [entry], ...(at === 0 ? { cursor: 1 } : {}) }));
    }
    const bytes = files[decodeURI(url.pathname.replace('/base/repos/team/model/raw/c0ffee/', ''))];
    if (bytes === undefined) response.writeHead(404);
    response.end(bytes);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => server.close());
  const tokenFile = join(directory, 'shelf-token');
  await writeFile(tokenFile, 's3cret\n');
  const network = createRegistryNetwork({
    hubs: {
      pluginsDirectory: plugins,
      endpoints: { shelf: `http://127.0.0.1:${(server.address() as AddressInfo).port}/base/` },
      tokenFiles: { shelf: tokenFile },
    },
  });
  t.after(() => network.close());
  const from = openRepository('shelf://team/model@v2', { network });
  const listing = JSON.parse(Buffer.from((await from.resolve(never)).bytes).toString());
  assert.deepEqual(listing, {
    schemaVersion: 1,
    revision: 'c0ffee',
    files: Object.entries(files).map(([path, bytes]) => ({
      path,
      size: bytes.length,
      digest: `sha256:${sha256(bytes)}`,
      location: `shelf:/repos/team/model/raw/c0ffee/${encodeURI(path)}`,
    })),
  });
  for (const { path, size, location } of listing.files) {
    const source = from.open({ digest: `sha256:${'0'.repeat(64)}`, size, location });
    assert.ok((await collect(await source.read(0, size, never))).equals(files[path]));
  }
  assert.deepEqual([...tokens], ['Bearer s3cret']);
  const wrong = await refused(openRepository('shelf://model', { network }).resolve(never));
  assert.deepEqual([wrong.code, /write shelf:\/\/TEAM/.test(wrong.message)], ['usage', true]);

  // A folder may be copied to another machine, but not to another name: that hub's token would go along.
  const copied = join(directory, 'copied');
  await cp(join(plugins, 'shelf'), join(copied, 'shelf'), { recursive: true });
  assert.equal((await findPlugin('shelf', copied)).sha256, plugin.sha256);
  await rename(join(copied, 'shelf'), join(copied, 'other'));
  const renamed = await refused(findPlugin('other', copied));
  assert.deepEqual([renamed.code, /its scheme "shelf" is another one/.test(renamed.message)], ['config', true]);

  await removePlugin('shelf', plugins);
  assert.equal((await refused(findPlugin('shelf', plugins))).code, 'not-found');
});

test('what is no driver is not added', async (t) => {
  if ((await componentizerOrSkip(t)) === undefined) return;
  const place = join(directory, 'none');
  for (const bytes of [Buffer.alloc(0), Buffer.from('no component'), Buffer.from('\0asm\x01\0\0\0', 'latin1')]) {
    const error = await refused(addPlugin(bytes, place, false));
    assert.equal(error.code, 'unsupported');
  }
  assert.equal((await refused(removePlugin('hf', place))).code, (await hasBuiltIn()) ? 'precondition' : 'not-found');
});

async function hasBuiltIn(): Promise<boolean> {
  return (await listPlugins(undefined)).length > 0;
}

/** What a driver does is in the reference: `start:CODE`, or `next:CODE`, JavaScript each. */
const EVIL = `
let code = '';
export function describe() {
  return { scheme: 'evil', endpoint: 'https://evil.example', redirects: [], tokenHeaders: [] };
}
export function start(reference) {
  code = decodeURIComponent(reference.slice(reference.indexOf(':') + 1));
  return reference.startsWith('start:') ? eval(code) : { path: '/' };
}
export function next(answer) { return eval(code); }
`;
const FILE = "{ path: 'a', size: 1, location: '/a', executable: false }";
const file = (change: string) => `({ files: [{ ...${FILE}, ${change} }] })`;

describe('a driver that', () => {
  let evil: InstalledPlugin | undefined;

  before(async (t) => {
    const componentizer = await componentizerOrSkip(t as never);
    if (componentizer === undefined) return;
    const path = join(directory, 'evil.js');
    await writeFile(path, EVIL);
    evil = await addPlugin(await componentizer.componentize(path), join(directory, 'plugins'), false);
  });

  const answer: DriverAnswer = { headers: [], body: new Uint8Array(0) };
  const run = (code: string, limits = DRIVER_LIMITS) =>
    listRepository(evil!, encodeURI(code), async () => ({ ...answer, body: new Uint8Array(0) }), limits);

  const CASES: Record<string, [code: string, expected: RegExp]> = {
    traps: ["next:throw new Error('boom')", /broke down/],
    'traps at once': ['start:null.x', /broke down/],
    'exhausts the stack': ['next:(function f() { return f() + 1; })()', /broke down/],
    'eats memory': ['next:const a = []; for (;;) a.push(new Uint8Array(1 << 20).fill(1))', /broke down|more memory/],
    'lists without end': [`next:(${`{ files: [${FILE}], next: { path: '/' } }`})`, /is there twice/],
    'asks without end': ["next:({ files: [], next: { path: '/' } })", /has asked 50 times/],
    'leads out of the mount': [`next:${file("path: '../etc/passwd'")}`, /the path "..\/etc\/passwd" leads elsewhere/],
    'has an absolute path': [`next:${file("path: '/etc/passwd'")}`, /is not relative/],
    'hides a path': [`next:${file("path: 'a/./../b'")}`, /leads elsewhere/],
    'has a NUL in a path': [`next:${file("path: 'a\\0b'")}`, /has a NUL/],
    'has a file as a folder': [
      `next:({ files: [${FILE}, { ...${FILE}, path: 'a/b' }] })`,
      /the file "a\/b" lies below a file/,
    ],
    'has an impossible size': [`next:${file('size: 9007199254740991')}`, /the size of "a": "9007199254740991"/],
    'has a false digest': [`next:${file("digest: { tag: 'sha256', val: 'abc' }")}`, /the digest of "a": "abc"/],
    'names another host': [
      `next:${file("location: 'https://169.254.169.254/latest'")}`,
      /169\.254\.169\.254.* no path/,
    ],
    'names another host by two slashes': [`next:${file("location: '//169.254.169.254/latest'")}`, /no path below/],
    'names a file of this machine': [
      `next:${file("location: 'file:///etc/passwd'")}`,
      /file:\/\/\/etc\/passwd.* no path/,
    ],
    'leads above its hub': [`next:${file("location: '/a/%2e%2e/b'")}`, /leads upwards/],
    'asks another host': ["start:({ path: 'http://127.0.0.1:2375/containers' })", /127\.0\.0\.1:2375.* no path/],
    'smuggles a header': ["start:({ path: '/', accept: 'a\\r\\nhost: b' })", /accept .*no value of a header/],
    'smuggles a request': ["start:({ path: '/ HTTP/1.1\\r\\nhost: b' })", /no path below/],
  };

  for (const [name, [code, expected]] of Object.entries(CASES))
    test(`${name} fails its own mount, and says so`, async (t) => {
      if (evil === undefined) return t.skip('jco is not installed');
      const error = await refused(run(code, { ...DRIVER_LIMITS, requests: 50, call: 30_000 }));
      assert.equal(error.code, 'corrupt');
      assert.match(error.message, /^the driver of evil:\/\/ /);
      assert.match(error.message, expected);
    });

  test('lists too much, or nothing, is refused for that', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    const many = `next:({ files: Array.from({ length: 70000 }, (_, i) => ({ ...${FILE}, path: String(i) })) })`;
    const error = await refused(run(many, { ...DRIVER_LIMITS, call: 60_000 }));
    assert.deepEqual([error.code, /lists more than 65534 files/.test(error.message)], ['unsupported', true]);
    assert.equal((await refused(run('next:({ files: [] })'))).code, 'not-found');
  });

  test('hangs is left alone by who does not wait for it any more', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    const network = createRegistryNetwork({ hubs: { pluginsDirectory: join(directory, 'plugins') } });
    t.after(() => network.close());
    const begun = Date.now();
    const from = openRepository(`evil://${encodeURI('start:for (;;);')}`, { network });
    const error = await refused(from.resolve(AbortSignal.timeout(500)));
    assert.equal(error.code, 'cancelled');
    assert.ok(Date.now() - begun < DRIVER_LIMITS.call);
  });

  test('hangs is ended, and this thread goes on meanwhile', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    let turns = 0;
    const timer = setInterval(() => turns++, 20);
    try {
      for (const code of ['next:for (;;);', 'start:for (;;);']) {
        const error = await refused(run(code, { ...DRIVER_LIMITS, call: 3_000 }));
        assert.deepEqual([error.code, /took more than 3 s: it was ended/.test(error.message)], ['timeout', true]);
      }
    } finally {
      clearInterval(timer);
    }
    assert.ok(turns > 20, `${turns} turns`);
  });

  test('waits for a hub that never answers, or asks it slowly for ever, is ended', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    const limits = { ...DRIVER_LIMITS, listing: 1_500 };
    const reference = encodeURI("next:({ files: [], next: { path: '/' } })");
    const slowly = async () => {
      await sleep(20);
      return { ...answer, body: new Uint8Array(0) };
    };
    for (const ask of [() => new Promise<DriverAnswer>(() => {}), slowly]) {
      const error = await refused(listRepository(evil, reference, ask, limits));
      assert.deepEqual([error.code, /was not done after 1\.5 s/.test(error.message)], ['timeout', true]);
    }
  });

  test('has nothing of this machine', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    const names = ['process', 'require', 'fetch', 'std', 'os', 'console', 'setTimeout', 'WebAssembly'];
    const error = await refused(
      run(`start:throw { tag: 'reference', val: ${names.map((name) => `typeof ${name}`).join("+' '+")} }`),
    );
    assert.equal(error.message, `the driver of evil:// says: ${names.map(() => 'undefined').join(' ')}`);
  });

  test('says why: short, and without control characters', async (t) => {
    if (evil === undefined) return t.skip('jco is not installed');
    const error = await refused(run("start:throw { tag: 'not-found', val: '\\x1b[2Jgone' + 'x'.repeat(999) }"));
    assert.equal(error.code, 'not-found');
    assert.match(error.message, /^the driver of evil:\/\/ says: {2}\[2Jgonex{1,300}$/);
  });
});
