/** `nymph rpull` with real containerds: what it leaves is what `ctr images pull` leaves, and it asks the snapshotter first. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import {
  configVersion,
  INSTALLS,
  noContainerd,
  proxyPlugin,
  type TestContainerd,
  testContainerd,
} from '../containerd.ts';
import { cannotMount, NYMPH, type Outcome, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { copyPrograms, makeLayeredImage } from '../plain-image.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const skip =
  cannotMount() || noContainerd() || (spawnSync('runc', ['--version']).error ? 'not installed: runc' : false);

interface Result {
  digest: string;
  manifest: string;
  fetched: number;
  layers: { digest: string; chainId: string; state: string; reason?: string; fetched: number; size: number }[];
}

interface Failure {
  error: { code: string; message: string; hint?: string };
}

/** Of the ordinary image. */
const LAYERS = 4;

for (const programs of INSTALLS)
  describe(`rpull into containerd in ${programs || 'PATH'}`, { skip }, () => {
    const directory = mkdtempSync('/tmp/nymph-');
    const cleaners: (() => void | Promise<void>)[] = [];
    const t = { after: (clean: () => void | Promise<void>) => void cleaners.unshift(clean) };
    let registry: TestRegistry;
    let daemon: TestDaemon;
    let containerd: TestContainerd;
    let plain: string;
    let nydus: string;

    before(async () => {
      const layout = join(directory, 'layout');
      makeLayeredImage(layout, 'v1', [
        (tree) => {
          copyPrograms(tree, '/bin/sh', '/bin/cat');
          for (const name of ['etc', 'proc', 'sys', 'dev']) mkdirSync(join(tree, name));
        },
        (tree) => writeFileSync(join(tree, 'one'), 'first'),
        (tree) => writeFileSync(join(tree, 'two'), 'second'),
        (tree) => writeFileSync(join(tree, 'one'), 'last'),
      ]);
      registry = await startRegistry({ layouts: { 'team/plain': layout, 'team/app': APP_LAYOUT } });
      t.after(() => registry.close());
      plain = `${registry.host}/team/plain:v1`;
      nydus = `${registry.host}/team/app:nydus`;
      daemon = await testDaemon(t, {
        start: false,
        toml: `[registry]\nplain_http = ["${registry.host}"]\n[containerd]\naddress = "${join(directory, 'c', 'containerd.sock')}"\n`,
      });
      const socket = join(daemon.directory, 'snapshotter.sock');
      containerd = await testContainerd(
        t,
        join(directory, 'c'),
        proxyPlugin('nymph', socket, configVersion(programs)),
        {
          programs: programs || undefined,
        },
      );
    });
    after(async () => {
      for (const clean of cleaners) await clean();
      rmSync(directory, { recursive: true, force: true });
    });

    // Namespaces share blobs: what one test leaves, the next does not fetch.
    afterEach(async () => {
      delete registry.faults.blob;
      for (const namespace of names(await containerd.good('namespaces', 'ls', '-q')))
        for (const image of names(await containerd.good('-n', namespace, 'images', 'ls', '-q')))
          await containerd.good('-n', namespace, 'images', 'rm', '--sync', image);
    });
    const names = (text: string) => text.split('\n').filter(Boolean);

    async function rpull(...args: string[]): Promise<Result> {
      const { status, json, err } = await daemon.nymph('rpull', ...args);
      assert.equal(status, 0, err);
      return json;
    }

    async function fails(status: number, ...args: string[]): Promise<Failure['error']> {
      const outcome = await daemon.nymph('rpull', ...args);
      assert.equal(outcome.status, status, outcome.err);
      return (outcome.json as Failure).error;
    }

    const blobsAsked = () => registry.stats.log.filter(({ url }) => url.includes('/blobs/')).map(({ url }) => url);

    /** All that containerd has in a namespace, without times: name and labels of blobs, snapshots with their parents. */
    async function state(namespace: string, snapshotter = 'overlayfs') {
      const of = (...args: string[]) => containerd.good('-n', namespace, ...args);
      const rows = (text: string) => text.split('\n').slice(1).filter(Boolean);
      const content = rows(await of('content', 'ls')).map((row) => {
        const columns = row.split('\t').map((column) => column.trim());
        return [columns[0], (columns.at(-1) as string).split(',').sort()];
      });
      return {
        content: content.sort(),
        snapshots: rows(await of('snapshots', '--snapshotter', snapshotter, 'ls'))
          .map((row) => row.split(/\s+/))
          .sort(),
        ingests: rows(await of('content', 'active')),
        leases: rows(await of('leases', 'ls')),
        images: names(await of('images', 'ls', '-q')),
      };
    }

    const NOTHING = { content: [], snapshots: [], ingests: [], leases: [], images: [] };

    test('an ordinary image: the same blobs, labels and snapshots as with `ctr images pull`; the collector takes all', async () => {
      const pulled = await rpull('--namespace', 'ours', '--snapshotter', 'overlayfs', plain);
      const options = ['images', 'pull', '--plain-http', '--snapshotter', 'overlayfs'];
      await containerd.good(
        '-n',
        'theirs',
        ...options,
        ...(containerd.version.startsWith('1.') ? [] : ['--local']),
        plain,
      );
      const [ours, theirs] = [await state('ours'), await state('theirs')];
      assert.deepEqual(ours, theirs);
      assert.equal(ours.snapshots.length, LAYERS);
      assert.deepEqual(
        pulled.layers.map(({ chainId }) => chainId).sort(),
        ours.snapshots.map(([key]) => key),
      );
      assert.ok(pulled.layers.every(({ state }) => state === 'unpacked'));
      assert.equal(
        pulled.fetched,
        pulled.layers.reduce((sum, { size }) => sum + size, 0),
      );
      assert.match(
        await containerd.good('-n', 'ours', 'images', 'check', '--snapshotter', 'overlayfs'),
        /complete \(5\/5\).*true/,
      );
      const { out, err } = await inContainer('ours', 'overlayfs', plain, '/bin/cat', '/one', '/two');
      assert.equal(out.toString(), 'lastsecond', err);
      for (const namespace of ['ours', 'theirs'])
        await containerd.good('-n', namespace, 'images', 'rm', '--sync', plain);
      assert.deepEqual(await state('ours'), NOTHING);
    });

    function inContainer(
      namespace: string,
      snapshotter: string,
      image: string,
      ...command: string[]
    ): Promise<Outcome> {
      const options = ['--rm', '--net-host', '--snapshotter', snapshotter];
      return containerd.ctr('-n', namespace, 'run', ...options, image, 'c', ...command);
    }

    test('what is here already is not fetched again, and other labels of the image stay', async () => {
      const of = ['--namespace', 'again', '--snapshotter', 'overlayfs', plain];
      await rpull(...of);
      await containerd.good('-n', 'again', 'images', 'label', plain, 'mine=1');
      const before = await state('again');
      const { layers, fetched } = await rpull(...of);
      assert.deepEqual([fetched, ...layers.map(({ state }) => state)], [0, ...Array(LAYERS).fill('present')]);
      assert.deepEqual(await state('again'), before);
      assert.match(await containerd.good('-n', 'again', 'images', 'ls'), /mine=1/);
    });

    test('three pulls of one image at once', async () => {
      registry.stats.log.length = 0;
      const of = ['--namespace', 'race', '--snapshotter', 'overlayfs', plain];
      const results = await Promise.all([rpull(...of), rpull(...of), rpull(...of)]);
      const layers = new Set(results[0].layers.map(({ digest }) => digest));
      const asked = blobsAsked().filter((url) => layers.has(url.slice(url.lastIndexOf('/') + 1)));
      assert.equal(asked.length, LAYERS, 'each layer is fetched once');
      const { snapshots, ingests, leases, images } = await state('race');
      assert.deepEqual([snapshots.length, ingests, leases, images], [LAYERS, [], [], [plain]]);
      await containerd.good('-n', 'race', 'images', 'rm', '--sync', plain);
      assert.deepEqual(await state('race'), NOTHING);
    });

    test('a registry that is cut leaves nothing behind; the next pull succeeds', async () => {
      const of = ['--namespace', 'cut', '--snapshotter', 'overlayfs', plain];
      // The config is small enough to come through.
      registry.faults.blob = { kind: 'cut', after: 3000 };
      const error = await fails(1, ...of);
      assert.equal(error.code, 'source');
      assert.deepEqual(await state('cut'), NOTHING);
      registry.faults.blob = { kind: 'cut', after: 3000, times: 2 };
      const { layers } = await rpull(...of);
      assert.equal(registry.faults.blob?.times, 0);
      assert.ok(layers.every(({ state }) => state === 'unpacked'));
    });

    test('wrong bytes are refused', async () => {
      const of = ['--namespace', 'lies', '--snapshotter', 'overlayfs', plain];
      registry.faults.blob = { kind: 'bit-flip' };
      assert.equal((await fails(5, ...of)).code, 'corrupt');
      assert.deepEqual(await state('lies'), NOTHING);
    });

    test('a layer that unpacks to something else than its image says is refused', async () => {
      const blobs = join(directory, 'layout', 'blobs', 'sha256');
      const read = (digest: string) => JSON.parse(readFileSync(join(blobs, digest.slice('sha256:'.length)), 'utf8'));
      const put = (value: object) => {
        const text = JSON.stringify(value);
        const hex = createHash('sha256').update(text).digest('hex');
        writeFileSync(join(blobs, hex), text);
        return { digest: `sha256:${hex}`, size: text.length };
      };
      const [{ digest }] = JSON.parse(readFileSync(join(directory, 'layout', 'index.json'), 'utf8')).manifests;
      const manifest = read(digest);
      const config = read(manifest.config.digest);
      const diffIds: string[] = config.rootfs.diff_ids;
      const wrong = put({ ...config, rootfs: { ...config.rootfs, diff_ids: diffIds.with(2, diffIds[1]) } });
      const lie = put({ ...manifest, config: { ...manifest.config, ...wrong } });
      const reference = `${registry.host}/team/plain@${lie.digest}`;
      const { code, message } = await fails(5, '--namespace', 'lies', '--snapshotter', 'overlayfs', reference);
      assert.equal(code, 'corrupt');
      assert.ok(message.includes(`unpacks to ${diffIds[2]}; the image says ${diffIds[1]}`), message);
      assert.deepEqual(await state('lies'), NOTHING);
    });

    test('Ctrl-C in the middle leaves nothing behind', async () => {
      registry.faults.blob = { kind: 'stall', after: 3000 };
      const args = ['--config', join(daemon.directory, 'config.toml'), 'rpull', '--namespace', 'stop'];
      const child = spawn(NYMPH, [...args, '--snapshotter', 'overlayfs', plain], { stdio: 'ignore' });
      const ended = new Promise((resolve) => child.once('exit', resolve));
      await until(
        30_000,
        'nothing is being fetched',
        async () => (await state('stop')).ingests.length > 0 || undefined,
      );
      child.kill('SIGINT');
      assert.equal(await ended, 130);
      assert.deepEqual(await state('stop'), NOTHING);
    });

    test('a Nydus image comes lazily: no blob of it is asked for whole, and a container reads what it needs', async () => {
      registry.stats.log.length = 0;
      const before = registry.stats.blobBytes;
      const { layers, fetched, digest } = await rpull(nydus);
      assert.deepEqual([fetched, ...layers.map(({ state }) => state)], [0, 'lazy', 'lazy', 'lazy']);
      const data = layers.slice(0, 2).reduce((sum, { size }) => sum + size, 0);
      assert.ok(registry.stats.blobBytes - before < data / 10);
      const { snapshots, leases, ingests, images } = await state('default', 'nymph');
      assert.deepEqual([snapshots.length, leases, ingests, images], [3, [], [], [nydus]]);
      assert.match(await containerd.good('images', 'ls'), new RegExp(`${nydus}.*${digest}.*linux/amd64`));
      const { out, err } = await inContainer('default', 'nymph', nydus, '/bin/app', 'ls', '/');
      assert.match(out.toString(), /\bbin\b/, err);
      assert.ok(registry.stats.blobBytes - before < data, 'not all of it');
      assert.deepEqual(
        (await rpull(nydus)).layers.map(({ state }) => state),
        ['lazy', 'lazy', 'lazy'],
      );
      await containerd.good('images', 'rm', '--sync', nydus);
      const { snapshots: left, content } = await state('default', 'nymph');
      assert.deepEqual([left, content], [[], []]);
    });

    test('with nymph an ordinary image is unpacked, and the result says why', async () => {
      const { layers } = await rpull('--namespace', 'usual', plain);
      for (const { state, reason } of layers)
        assert.deepEqual([state, reason], ['unpacked', 'a layer of an ordinary image']);
      for (const { state, reason } of (await rpull('--namespace', 'usual', plain)).layers)
        assert.deepEqual([state, reason], ['present', 'a layer of an ordinary image']);
      const { out, err } = await inContainer('usual', 'nymph', plain, '/bin/cat', '/one');
      assert.equal(out.toString(), 'last', err);
      await containerd.good('-n', 'usual', 'images', 'rm', '--sync', plain);
      assert.deepEqual(await state('usual', 'nymph'), NOTHING);
    });

    test('what goes wrong is told with what to do', async () => {
      const absent = await fails(7, '--containerd', join(directory, 'none.sock'), plain);
      assert.match(absent.message, /cannot talk to containerd at .*none\.sock: connect ENOENT/);
      assert.match(absent.hint as string, /Start containerd/);
      const unknown = await fails(2, '--snapshotter', 'none', plain);
      assert.match(unknown.message, /has no snapshotter "none"/);
      assert.match(unknown.hint as string, /nymph setup containerd.*overlayfs/);
      assert.equal((await fails(2, `oci:${APP_LAYOUT}`)).code, 'usage');
      assert.equal((await fails(2, '--namespace', 'a b', plain)).code, 'usage');
      assert.equal((await fails(3, `${registry.host}/team/plain:none`)).code, 'not-found');
      const other = await fails(7, '--namespace', 'other', '--snapshotter', 'overlayfs', nydus);
      assert.match(other.message, /nydus\.blob/);
      assert.deepEqual(await state('other'), NOTHING);
    });

    test('the daemon was started by the first pull that needed it', async () => {
      assert.ok((await daemon.client.health()).supervisor);
      await daemon.stop();
    });
  });
