import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import type { InstalledPlugin } from '../../src/plugins/plugin.ts';
import { openHub } from '../../src/sources/hub/hub.ts';
import type { HubSettings } from '../../src/sources/hub/settings.ts';
import { openRepository } from '../../src/sources/open.ts';
import { createRegistryNetwork } from '../../src/sources/registry/network.ts';
import type { Repository, Source } from '../../src/sources/source.ts';
import { withoutDrivers } from '../hub/drivers.ts';
import { gitId, type HubRepository, modelFiles, sha256 } from '../hub/files.ts';
import { pathsOf, startHuggingFace } from '../hub/hugging-face.ts';
import { startModelScope } from '../hub/modelscope.ts';
import type { HubOptions, TestHub } from '../hub/server.ts';
import { refused } from '../refused.ts';
import { collect, type RangeSubject, rangeSuite } from '../source-suite.ts';

/** The drivers of the public hubs and what carries out their requests, against servers that speak as those do. */

const MAIN = 'a'.repeat(40);
const OLD = 'b'.repeat(40);
const never = new AbortController().signal;
const closers: (() => Promise<unknown>)[] = [];
let directory: string;
const missing = await withoutDrivers();

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'nymph-hub-'));
});
after(() => rm(directory, { recursive: true, force: true }));
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

function repository(more: Partial<HubRepository> = {}): HubRepository {
  const [old, main] = [modelFiles('old'), modelFiles('main')];
  // The second commit changes all but the second shard.
  main[5] = old[5];
  return {
    commits: { [OLD]: old, [MAIN]: main },
    branches: { main: MAIN, master: MAIN, 'refs/pr/1': OLD, 'v1.0': OLD },
    ...more,
  };
}

interface Listed {
  path: string;
  size: number;
  mode?: number;
  digest?: string;
  location: string;
}

const HUBS = {
  hf: { start: startHuggingFace, variable: 'HF_ENDPOINT', token: 'HF_TOKEN' },
  modelscope: { start: startModelScope, variable: 'MODELSCOPE_ENDPOINT', token: 'MODELSCOPE_API_TOKEN' },
};

async function start(scheme: keyof typeof HUBS, options: HubOptions): Promise<TestHub> {
  const hub = await HUBS[scheme].start(options);
  closers.push(() => hub.close());
  return hub;
}

/** Opens a reference at a test server, whose storage is named as a place to be redirected to. */
function open(
  hub: TestHub,
  reference: string,
  env: NodeJS.ProcessEnv = {},
  more: Partial<HubSettings> = {},
): Repository {
  const scheme = reference.split(':', 1)[0] as keyof typeof HUBS;
  const network = createRegistryNetwork({
    hubs: {
      env: { HOME: directory, [HUBS[scheme].variable]: hub.url, ...env },
      redirects: { [scheme]: [hub.storage.host] },
      ...more,
    },
  });
  closers.push(() => network.close());
  return openRepository(reference, { network });
}

async function list(from: Repository): Promise<{ revision: string; files: Listed[]; digest: string }> {
  const { descriptor, bytes } = await from.resolve(never);
  assert.equal(descriptor.mediaType, 'application/vnd.nymph.files.v1+json');
  assert.equal(descriptor.digest, `sha256:${sha256(bytes)}`);
  return { ...JSON.parse(Buffer.from(bytes).toString()), digest: descriptor.digest };
}

function sourceOf(from: Repository, { size, location }: Listed): Source {
  return from.open({ digest: `sha256:${'0'.repeat(64)}`, size, location });
}

async function read(from: Repository, file: Listed): Promise<Buffer> {
  return file.size === 0 ? Buffer.alloc(0) : collect(await sourceOf(from, file).read(0, file.size, never));
}

for (const scheme of ['hf', 'modelscope'] as const)
  describe(`${scheme}://`, () => {
    const inBranch = scheme === 'hf' ? 'main' : 'master';

    test('lists a repository at a commit, and reads every file of it', async (t) => {
      if (missing) return t.skip(missing);
      const files = modelFiles('main');
      files[5] = modelFiles('old')[5];
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() }, page: 3 });
      const from = open(hub, `${scheme}://Qwen/tiny`);
      const listed = await list(from);
      assert.deepEqual(
        listed.files.map(({ path, size }) => ({ path, size })),
        files.map(({ path, bytes }) => ({ path, size: bytes.length })).sort((a, b) => (a.path < b.path ? -1 : 1)),
      );
      if (scheme === 'hf') assert.equal(listed.revision, MAIN);
      for (const file of listed.files) {
        const { bytes, kind } = files.find(({ path }) => path === file.path)!;
        const isGit = scheme === 'hf' && kind === 'git';
        assert.equal(file.digest, isGit ? `git:${gitId(bytes)}` : `sha256:${sha256(bytes)}`);
        assert.match(file.location, new RegExp(`^${scheme}:/.*(?:${MAIN}|${OLD})`));
        assert.ok((await read(from, file)).equals(bytes), file.path);
      }
    });

    test('the commit stays when the branch moves on', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() } });
      const from = open(hub, `${scheme}://Qwen/tiny`);
      const before = await list(from);
      const { commits } = hub.repositories['models/Qwen/tiny'];
      const newer = modelFiles('newer');
      hub.repositories['models/Qwen/tiny'] = {
        commits: { ...commits, ['c'.repeat(40)]: newer },
        branches: { [inBranch]: 'c'.repeat(40) },
      };
      const config = before.files.find(({ path }) => path === 'config.json')!;
      assert.deepEqual(JSON.parse((await read(from, config)).toString()), { seed: 'main' });
      const after = await list(open(hub, `${scheme}://Qwen/tiny`));
      assert.notEqual(after.digest, before.digest);
    });

    test('equal commits have equal listings, whatever mirror gives them', async (t) => {
      if (missing) return t.skip(missing);
      const hubs = await Promise.all(
        [2, 1000].map((page) => start(scheme, { repositories: { 'models/Qwen/tiny': repository() }, page })),
      );
      const [a, b] = await Promise.all(hubs.map((hub) => list(open(hub, `${scheme}://Qwen/tiny`))));
      assert.equal(a.digest, b.digest);
    });

    test('another revision, a folder, a data set', async (t) => {
      if (missing) return t.skip(missing);
      const repositories = { 'models/Qwen/tiny': repository(), 'datasets/Qwen/words': repository() };
      const hub = await start(scheme, { repositories });
      const old = await list(open(hub, `${scheme}://Qwen/tiny@v1.0`));
      const readme = old.files.find(({ path }) => path === 'README.md')!;
      assert.equal((await read(open(hub, `${scheme}://Qwen/tiny`), readme)).toString(), '# old\n');
      const folder = await list(open(hub, `${scheme}://models/Qwen/tiny/onnx`));
      assert.deepEqual(
        folder.files.map(({ path }) => path),
        ['onnx/größe & 100%.json'],
      );
      const words = open(hub, `${scheme}://datasets/Qwen/words@refs%2Fpr%2F1`);
      const config = (await list(words)).files.find(({ path }) => path === 'config.json')!;
      assert.match(config.location, /datasets\/Qwen\/words/);
      assert.equal((await read(words, config)).toString(), '{"seed":"old"}');
    });

    test('a long listing comes in pages', async (t) => {
      if (missing) return t.skip(missing);
      const many = Array.from({ length: 450 }, (_, i) => ({
        path: `data/${i}.txt`,
        bytes: Buffer.from(String(i)),
        kind: 'git' as const,
      }));
      const big = { commits: { [MAIN]: many }, branches: { [inBranch]: MAIN } };
      const hub = await start(scheme, { repositories: { 'datasets/a/big': big }, page: 100 });
      assert.equal((await list(open(hub, `${scheme}://datasets/a/big`))).files.length, 450);
      assert.ok(hub.log.length >= 3, `${hub.log.length} requests`);
    });

    test('a private repository needs the token, which goes to the hub alone and shows nowhere', async (t) => {
      if (missing) return t.skip(missing);
      const token = 'secret-of-mine';
      const hub = await start(scheme, { repositories: { 'models/me/own': repository({ private: true }) }, token });
      const reference = `${scheme}://me/own`;
      const error = await refused(open(hub, reference).resolve(never));
      assert.equal(error.code, scheme === 'hf' ? 'denied' : 'not-found');
      if (scheme === 'hf') assert.match(error.hint ?? '', /HF_TOKEN/);

      const file = join(directory, 'token');
      await writeFile(file, `${token}\n`);
      for (const from of [
        open(hub, reference, { [HUBS[scheme].token]: token }),
        open(hub, reference, { [HUBS[scheme].token]: 'wrong' }, { tokenFiles: { [scheme]: file } }),
      ]) {
        const listed = await list(from);
        const shard = listed.files.find(({ path }) => path.startsWith('model-00001'))!;
        assert.equal((await read(from, shard)).length, shard.size);
        assert.ok(!JSON.stringify(listed).includes(token));
      }
      assert.ok(hub.storage.log.length > 0);
      for (const { headers } of hub.storage.log) assert.ok(!JSON.stringify(headers).includes(token));

      hub.fail = { status: 400, times: 1, body: JSON.stringify({ error: `bad token ${token}` }) };
      const wrong = await refused(open(hub, reference, { [HUBS[scheme].token]: token }).resolve(never));
      assert.match(wrong.message, /bad token \[token\]/);
    });

    test('a file by an address that expires is asked for again', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() } });
      const from = open(hub, `${scheme}://Qwen/tiny`);
      const shard = (await list(from)).files.find(({ path }) => path.startsWith('model-00001'))!;
      const source = sourceOf(from, shard);
      const { bytes } = repository().commits[MAIN][4];
      const part = async (offset: number) => {
        const got = await collect(await source.read(offset, 1000, never));
        assert.ok(got.equals(bytes.subarray(offset, offset + 1000)));
      };
      const asked = hub.log.length;
      await part(0);
      await part(2_000_000);
      assert.equal(hub.log.length, asked + 1, 'the second range goes to the storage at once');
      hub.storage.expireAll();
      await part(1_000_000);
      assert.equal(hub.log.length, asked + 2, 'a new address');
    });

    test('who reads at the same time asks the hub once where a file is', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() } });
      const from = open(hub, `${scheme}://Qwen/tiny`);
      const shard = (await list(from)).files.find(({ path }) => path.startsWith('model-00001'))!;
      const asked = hub.log.length;
      const source = sourceOf(from, shard);
      const { bytes } = repository().commits[MAIN][4];
      const parts = Array.from({ length: 16 }, (_, i) => i * 100_000);
      await Promise.all(
        parts.map(async (offset) => {
          const got = await collect(await source.read(offset, 1000, never));
          assert.ok(got.equals(bytes.subarray(offset, offset + 1000)));
        }),
      );
      assert.equal(hub.log.length, asked + 1);
    });

    test('a redirect to a host that nobody has named is refused', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() } });
      const from = open(hub, `${scheme}://Qwen/tiny`, {}, { redirects: {} });
      const shard = (await list(from)).files.find(({ path }) => path.startsWith('model-00001'))!;
      const error = await refused(sourceOf(from, shard).read(0, 10, never));
      assert.equal(error.code, 'denied');
      assert.match(error.message, new RegExp(`redirects .* to http://${hub.storage.host}: nobody has named`));
      assert.equal(hub.storage.log.length, 0);
      for (const location of ['http://169.254.169.254/latest/meta-data/', 'file:///etc/passwd']) {
        hub.fail = { status: 302, times: 1, headers: { location } };
        const lured = await refused(open(hub, `${scheme}://Qwen/tiny`).resolve(never));
        assert.match(lured.message, /169\.254\.169\.254: nobody has named|to a file: address/);
      }
    });

    test('refusals are told clearly', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() }, token: 'x' });
      const env = { [HUBS[scheme].token]: 'x' };
      const absent = await refused(open(hub, `${scheme}://Qwen/none`, env).resolve(never));
      assert.equal(absent.code, 'not-found');
      assert.match(absent.message, /Qwen\/none/);
      const revision = await refused(open(hub, `${scheme}://Qwen/tiny@nowhere`, env).resolve(never));
      assert.equal(revision.code, 'not-found');
      assert.match(revision.message, /nowhere/);
      const limit = { ratelimit: '"api";r=0;t=55', 'ratelimit-policy': '"fixed window";"api";q=500;w=300' };
      hub.fail = { status: 429, times: 1, headers: limit };
      const limited = await refused(open(hub, `${scheme}://Qwen/tiny`).resolve(never));
      assert.deepEqual([limited.code, limited.retryable, limited.retryAfter], ['source', true, 55_000]);
      assert.match(limited.hint ?? '', /limits requests/);
      hub.fail = { status: 200, times: 1, body: '<html>captive portal</html>' };
      const nonsense = await refused(open(hub, `${scheme}://Qwen/tiny`).resolve(never));
      assert.deepEqual([nonsense.code, /not JSON/.test(nonsense.message)], ['source', true]);
      for (const wrong of ['Qwen', 'Qwen/a/b@c', '../x', 'Qwen/..', 'a b/c', 'Qwen/tiny@'])
        if (!(scheme === 'hf' && wrong === 'Qwen')) {
          const error = await refused((async () => open(hub, `${scheme}://${wrong}`).resolve(never))());
          assert.equal(error.code, wrong === 'Qwen/a/b@c' && scheme === 'modelscope' ? 'not-found' : 'usage', wrong);
        }
    });

    test('a hub that fails for a moment is asked again', async (t) => {
      if (missing) return t.skip(missing);
      const hub = await start(scheme, { repositories: { 'models/Qwen/tiny': repository() } });
      hub.fail = { status: 503, times: 2 };
      assert.equal((await list(open(hub, `${scheme}://Qwen/tiny`))).files.length, 7);
    });
  });

if (missing) test('range promises: a file of hf://', (t) => t.skip(missing));
else rangeSuite('a file of hf://', startRanges);

async function startRanges(): Promise<RangeSubject> {
  const hub = await startHuggingFace({ repositories: { 'models/Qwen/tiny': repository() } });
  const network = createRegistryNetwork({
    hubs: { endpoints: { hf: hub.url }, redirects: { hf: [hub.storage.host] }, env: {} },
  });
  const from = openRepository('hf://Qwen/tiny', { network });
  const digest = `sha256:${'0'.repeat(64)}` as const;
  const at = (path: string) => `hf:/Qwen/tiny/resolve/${MAIN}/${path}`;
  const { bytes, path } = repository().commits[MAIN][4];
  return {
    source: from.open({ digest, size: bytes.length, location: at(path) }),
    bytes,
    absent: (size) => from.open({ digest, size, location: at('absent') }),
    close: async () => {
      await network.close();
      await hub.close();
    },
  };
}

test('a hub that is asked by https leads to no address without it, whoever has named the host', async () => {
  const description = {
    ...{ scheme: 'shelf', endpoint: 'https://shelf.example', tokenHeaders: [] },
    redirects: ['*.shelf.example'],
  };
  const plugin = { description, builtIn: false } as unknown as InstalledPlugin;
  const hub = openHub(plugin, { redirects: { shelf: ['cdn.example'] } });
  for (const address of ['http://cdn.example/a', 'http://cdn.shelf.example/a', 'http://shelf.example/a']) {
    const error = await refused(Promise.resolve().then(() => hub.admit(new URL(address), 'a file')));
    assert.deepEqual([error.code, /not encrypted/.test(error.message)], ['denied', true]);
  }
  assert.equal(hub.admit(new URL('https://cdn.example/a'), 'a file').foreign, undefined);
  assert.equal(hub.admit(new URL('https://cdn.shelf.example/a'), 'a file').foreign, true);
});

test('hf: the old repositories have no owner; a gated one lists, and its files are refused with what to do', async (t) => {
  if (missing) return t.skip(missing);
  const gated = { 'models/me/gated': repository({ gated: true }) };
  const hub = await start('hf', { repositories: gated, token: 'hf_x' });
  const from = open(hub, 'hf://me/gated', { HF_TOKEN: 'hf_x' });
  const listed = await list(from);
  const error = await refused(read(from, listed.files[0]));
  assert.equal(error.code, 'denied');
  assert.match(error.message, /GatedRepo: Access to model me\/gated is restricted/);
  await refused(open(hub, 'hf://gpt2@main').resolve(never));
  assert.ok(pathsOf(hub.log).includes('/api/models/gpt2/revision/main'));
});

test('hf: nothing is asked where HF_HUB_OFFLINE is set', async (t) => {
  if (missing) return t.skip(missing);
  const hub = await start('hf', { repositories: { 'models/Qwen/tiny': repository() } });
  const error = await refused(open(hub, 'hf://Qwen/tiny', { HF_HUB_OFFLINE: '1' }).resolve(never));
  assert.equal(error.code, 'precondition');
  assert.equal(hub.log.length, 0);
});

test('tokens are found where people put them, and read anew', async (t) => {
  if (missing) return t.skip(missing);
  const hub = await start('hf', { repositories: { 'models/me/own': repository({ private: true }) }, token: 'hf_abc' });
  const path = join(directory, 'hf-token');
  await writeFile(path, 'hf_abc');
  assert.equal((await list(open(hub, 'hf://me/own', { HF_TOKEN_PATH: path }))).files.length, 7);
  await writeFile(path, 'no token at all');
  const error = await refused(open(hub, 'hf://me/own', { HF_TOKEN_PATH: path }).resolve(never));
  assert.equal(error.code, 'config');
  assert.ok(!error.message.includes('no token at all'));
  const named = { tokenFiles: { hf: join(directory, 'absent') } };
  assert.equal((await refused(open(hub, 'hf://me/own', {}, named).resolve(never))).code, 'config');
});

test('a scheme without a driver is told so', async () => {
  const from = openRepository('nobody://a/b');
  const error = await refused(from.resolve(never));
  assert.equal(error.code, 'not-found');
  assert.match(error.message, /there is no plugin for nobody:\/\//);
  await from.close();
});
