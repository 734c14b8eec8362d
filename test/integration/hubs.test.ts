/** Repositories of hubs, mounted lazily through their drivers. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { before, describe, type TestContext, test } from 'node:test';
import { cannotMount, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { componentizerOrSkip, withoutDrivers } from '../hub/drivers.ts';
import { type HubFile, type HubRepository, modelFiles, noise } from '../hub/files.ts';
import { startHuggingFace } from '../hub/hugging-face.ts';
import { startModelScope } from '../hub/modelscope.ts';
import type { TestHub } from '../hub/server.ts';

const COMMIT = 'a'.repeat(40);
const TOKEN = 'hf_a_secret_of_the_test';
const LARGE = 'large.safetensors';
let missing: string | undefined;

before(async () => {
  missing = await withoutDrivers();
});

const files = (): HubFile[] => [
  ...modelFiles('mounted'),
  { path: LARGE, bytes: noise('large', 12_000_001), kind: 'xet' },
  { path: 'large-in-git.bin', bytes: noise('git', 5_000_000), kind: 'git' },
];

const repository = (more: Partial<HubRepository> = {}): HubRepository => ({
  commits: { [COMMIT]: files() },
  branches: { main: COMMIT, master: COMMIT },
  ...more,
});

async function start(t: TestContext, scheme: 'hf' | 'modelscope'): Promise<{ hub: TestHub; toml: string }> {
  const begin = scheme === 'hf' ? startHuggingFace : startModelScope;
  const repositories = {
    'models/Qwen/tiny': repository(),
    'models/me/own': repository({ private: true }),
  };
  const hub = await begin({ repositories, token: TOKEN, page: 4 });
  t.after(() => hub.close());
  const toml = `[hub]\nendpoints = { ${scheme} = "${hub.url}" }\nredirects = { ${scheme} = ["${hub.storage.host}"] }\n`;
  return { hub, toml };
}

function writeTruth(directory: string): void {
  for (const { path, bytes } of files()) {
    mkdirSync(dirname(join(directory, path)), { recursive: true });
    writeFileSync(join(directory, path), bytes);
  }
}

async function mount(daemon: TestDaemon, reference: string, place: string, ...options: string[]): Promise<void> {
  const { status, err } = await daemon.nymph('mount', '--prefetch', 'none', ...options, reference, place);
  assert.equal(status, 0, err);
}

const sums = async (place: string) =>
  (await run('sh', ['-c', 'cd "$0" && find . -type f | sort | xargs -d "\\n" sha256sum', place])).out.toString();

const read = (path: string) => run('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M']);

async function standing(daemon: TestDaemon, reference: string, path: string): Promise<string | undefined> {
  return (await daemon.client.image(reference)).blobs.find((blob) => blob.path === path)?.standing;
}

describe('hubs', { skip: cannotMount() }, () => {
  for (const scheme of ['hf', 'modelscope'] as const)
    test(`${scheme}: every file is there with its digest, and large ones are checked when they are complete`, async (t) => {
      if (missing) return t.skip(missing);
      const { hub, toml } = await start(t, scheme);
      const daemon = await testDaemon(t, { toml });
      const truth = daemon.place('truth');
      writeTruth(truth);
      const place = daemon.place('m');
      const reference = `${scheme}://Qwen/tiny`;
      await mount(daemon, reference, place);
      const listing = hub.log.length;
      await run('cat', [join(place, 'config.json')]);
      assert.ok(hub.log.length <= listing + 2, 'only what is read is asked for');
      hub.storage.expireAll();
      assert.equal(await sums(place), await sums(truth));
      for (const path of [LARGE, 'large-in-git.bin'])
        await until(10_000, `${path} is not checked`, async () => {
          return (await standing(daemon, reference, path)) === 'right' || undefined;
        });
      const inspected = (await daemon.nymph('inspect', reference)).json as Record<string, unknown>;
      assert.equal(inspected.format, 'hub');
      if (scheme === 'hf') assert.equal(inspected.revision, COMMIT);
      assert.equal((inspected.totals as { files: number }).files, files().length);
      const { mounts } = (await daemon.nymph('ls')).json as { mounts: { reference: string }[] };
      assert.deepEqual(
        mounts.map((one) => one.reference),
        [reference],
      );
    });

  test('a mount lives on after the daemon, without another listing, also when the branch has moved', async (t) => {
    if (missing) return t.skip(missing);
    const { hub, toml } = await start(t, 'hf');
    const daemon = await testDaemon(t, { toml });
    await daemon.supervised();
    const truth = daemon.place('truth');
    writeTruth(truth);
    const place = daemon.place('m');
    await mount(daemon, 'hf://Qwen/tiny@main', place);
    hub.repositories['models/Qwen/tiny'].branches = { main: 'b'.repeat(40) };
    const listed = hub.log.length;
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.equal(await sums(place), await sums(truth));
    assert.equal(hub.log.slice(listed).filter(({ url }) => url?.startsWith('/api/models')).length, 0);
  });

  test('a private repository by a token that shows nowhere', async (t) => {
    if (missing) return t.skip(missing);
    const { toml } = await start(t, 'hf');
    const without = await testDaemon(t, { toml });
    const place = without.place('m');
    const refused = await without.nymph('mount', 'hf://me/own', place);
    assert.equal(refused.status, 4, refused.err);
    await without.stop();

    const daemon = await testDaemon(t, {
      toml: toml.replace('[hub]', '[hub]\ntoken_files = { hf = "/nowhere" }'),
      start: false,
    });
    const file = join(daemon.directory, 'token');
    writeFileSync(file, TOKEN, { mode: 0o600 });
    const config = join(daemon.directory, 'config.toml');
    writeFileSync(config, readFileSync(config, 'utf8').replace('/nowhere', file));
    await daemon.start();
    await mount(daemon, 'hf://me/own', place);
    assert.equal((await read(join(place, LARGE))).status, 0);
    const { pid } = await daemon.client.health();
    assert.ok(!readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(TOKEN));
    assert.deepEqual(daemon.logged(TOKEN), []);
    const { out } = await run('grep', ['-rl', TOKEN, daemon.root]);
    assert.equal(out.toString(), '', 'nothing below the root has it');
    await daemon.nymph('umount', place);
  });

  test('a file that is not what its git id says is removed', async (t) => {
    if (missing) return t.skip(missing);
    const { hub, toml } = await start(t, 'hf');
    const daemon = await testDaemon(t, { toml });
    const place = daemon.place('m');
    await mount(daemon, 'hf://Qwen/tiny', place);
    const served = hub.repositories['models/Qwen/tiny'].commits[COMMIT].find(
      ({ path }) => path === 'large-in-git.bin',
    )!;
    served.bytes = Buffer.from(served.bytes);
    served.bytes[4_000_000] ^= 1;
    await read(join(place, 'large-in-git.bin'));
    await until(10_000, 'nobody notices', async () => {
      return (await standing(daemon, 'hf://Qwen/tiny', 'large-in-git.bin')) === 'wrong' || undefined;
    });
    await until(10_000, 'it can be read', async () => {
      return (await read(join(place, 'large-in-git.bin'))).status !== 0 || undefined;
    });
  });

  test('plugin add, ls, rm; a driver that hangs fails its own mount while others are read', async (t) => {
    if (missing) return t.skip(missing);
    const componentizer = await componentizerOrSkip(t);
    if (componentizer === undefined) return;
    const { toml } = await start(t, 'hf');
    const daemon = await testDaemon(t, { toml });
    const source = join(daemon.directory, 'stuck.js');
    writeFileSync(
      source,
      `export const describe = () => ({ scheme: 'stuck', endpoint: 'https://stuck.example', redirects: [], tokenHeaders: [] });
export const start = () => { for (;;); };
export const next = () => ({ files: [] });\n`,
    );
    const file = join(daemon.directory, 'stuck.wasm');
    writeFileSync(file, await componentizer.componentize(source));
    const added = await daemon.nymph('plugin', 'add', file);
    assert.equal(added.status, 0, added.err);
    assert.equal((added.json as { endpoint: string }).endpoint, 'https://stuck.example');
    assert.equal((await daemon.nymph('plugin', 'add', file)).status, 1);
    assert.equal((await daemon.nymph('plugin', 'add', '--replace', file)).status, 0);
    const { plugins } = (await daemon.nymph('plugin', 'ls')).json as { plugins: { scheme: string }[] };
    assert.deepEqual(
      plugins.map(({ scheme }) => scheme),
      ['hf', 'modelscope', 'stuck'],
    );

    const place = daemon.place('m');
    await mount(daemon, 'hf://Qwen/tiny', place);
    const stuck = daemon.nymph('mount', 'stuck://a/b', daemon.place('s'));
    assert.equal((await read(join(place, LARGE))).status, 0);
    const { status, err } = await stuck;
    assert.equal(status, 1, err);
    assert.match(err, /the driver of stuck:\/\/ took more than 10 s: it was ended/);
    assert.equal((await read(join(place, 'large-in-git.bin'))).status, 0);

    assert.equal((await daemon.nymph('plugin', 'rm', 'stuck')).status, 0);
    assert.match((await daemon.nymph('mount', 'stuck://a/b', daemon.place('s'))).err, /no plugin for stuck:\/\//);
    assert.notEqual((await daemon.nymph('plugin', 'rm', 'hf')).status, 0);
  });
});
