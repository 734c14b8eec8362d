/** Containers from lazy images, by real clients of real containerds. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  configVersion,
  criConfig,
  INSTALLS,
  noContainerd,
  type TestContainerd,
  testContainerd,
} from '../containerd.ts';
import { cannotMount, mountsBelow, NYMPH, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { copyPrograms, makeImagesOnOneBase } from '../plain-image.ts';
import { type Pods, podClient } from '../pods.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { type SnapshotsClient, snapshotsClient } from '../snapshots.ts';
import { onDisk } from '../snapshotter-kit.ts';

const skip =
  cannotMount() || noContainerd() || (spawnSync('runc', ['--version']).error ? 'not installed: runc' : false);
const noNerdctl = spawnSync('nerdctl', ['--version']).error ? 'not installed: nerdctl' : false;
const PROGRAMS = ['/bin/sh', '/bin/cat', '/bin/ls', '/bin/sleep', '/usr/bin/sha256sum'];

/** Layers that change each other; the second has a file that is large enough to be read in parts. */
const LAYERS: ((tree: string) => void)[] = [
  (tree) => {
    copyPrograms(tree, ...PROGRAMS);
    for (const name of ['gone', 'opaque', 'etc', 'proc', 'sys', 'dev', 'run', 'tmp']) mkdirSync(join(tree, name));
    for (const name of ['gone/a', 'opaque/hidden', 'replaced', 'etc/base'])
      writeFileSync(join(tree, name), `base ${name}\n`);
    for (let i = 0; i < 200; i++) writeFileSync(join(tree, 'etc', `file${i}`), `${i}\n`.repeat(300 + i));
  },
  (tree) => {
    mkdirSync(join(tree, 'opaque'));
    writeFileSync(join(tree, 'opaque/.wh..wh..opq'), '');
    writeFileSync(join(tree, 'opaque/new'), 'new\n');
    writeFileSync(join(tree, 'replaced'), 'second\n');
    writeFileSync(join(tree, '.wh.gone'), '');
    writeFileSync(join(tree, 'large'), noise(6 << 20));
  },
];
/** Upon the first layer, instead of the second. */
const SIBLING = (tree: string) => {
  mkdirSync(join(tree, 'etc'));
  writeFileSync(join(tree, 'etc/sibling'), 'another image\n');
};
/** A large program, by the name that clients know it under. */
const TOOL_SIZE = 3 << 20;
const TOOL = (tree: string) => {
  mkdirSync(join(tree, 'opt'));
  writeFileSync(join(tree, 'opt/tool-1.2'), noise(TOOL_SIZE), { mode: 0o755 });
  mkdirSync(join(tree, 'usr/local/bin'), { recursive: true });
  symlinkSync('../../../opt/tool-1.2', join(tree, 'usr/local/bin/tool'));
};
/** Says what the image is, from all of its files. */
const TELL = 'cat /etc/base /replaced /opaque/*; ls /; sha256sum /large /etc/file* | sha256sum';
const PAUSE = ['/bin/sleep', '100000'];

/** Bytes that do not compress, the same each time. */
function noise(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  for (let i = 0, x = 1; i + 4 <= size; i += 4) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes.writeUInt32LE(x, i);
  }
  return bytes;
}

describe('lazy images through containerd', { skip }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const cleaners: (() => void | Promise<void>)[] = [];
  const plain = join(directory, 'plain');
  const nydus = join(directory, 'nydus');
  let registry: TestRegistry;

  before(async () => {
    const [base, ...own] = LAYERS;
    makeImagesOnOneBase(plain, [base], { v1: own, sibling: [SIBLING], tool: [TOOL] }, PAUSE);
    for (const [from, ...args] of [
      ['v1', `oci:${nydus}:nydus`],
      ['v1', '--index', `oci:${nydus}:both`],
      ['tool', `oci:${nydus}:tool`],
    ]) {
      const converted = await run(NYMPH, ['convert', `oci:${plain}:${from}`, ...args]);
      assert.equal(converted.status, 0, converted.err);
    }
    registry = await startRegistry({ layouts: { plain, app: nydus } });
    cleaners.push(() => registry.close());
  });
  after(async () => {
    for (const clean of cleaners) await clean();
    rmSync(directory, { recursive: true, force: true });
  });

  for (const programs of INSTALLS)
    describe(`containerd in ${programs || 'PATH'}`, () => {
      let daemon: TestDaemon;
      let containerd: TestContainerd;
      let snapshots: SnapshotsClient;
      let pods: Pods;
      let truth: string;
      let toml: string;
      const ending: (() => void | Promise<void>)[] = [];
      const t = { after: (clean: () => void | Promise<void>) => void ending.unshift(clean) };
      const image = () => `${registry.host}/app:nydus`;

      before(async () => {
        const home = mkdtempSync('/tmp/nymph-');
        t.after(() => rmSync(home, { recursive: true, force: true }));
        const address = join(home, 'c', 'containerd.sock');
        daemon = await testDaemon(t, { toml: `[containerd]\naddress = "${address}"\n` });
        const socket = join(daemon.directory, 'snapshotter.sock');
        toml =
          configVersion(programs) === 2
            ? criConfig(socket, `${registry.host}/plain:v1`, ['nymph', 'nydus'])
            : secondConfig(socket, `${registry.host}/plain:v1`);
        containerd = await testContainerd(t, join(home, 'c'), toml, { programs: programs || undefined });
        snapshots = snapshotsClient(socket);
        t.after(() => snapshots.close());
        pods = podClient(containerd.address);
        t.after(() => pods.close());
        const of = ['--snapshotter', 'overlayfs'];
        await containerd.good('images', 'pull', '--plain-http', ...of, `${registry.host}/plain:v1`);
        truth = await containerd.good(
          'run',
          '--rm',
          ...of,
          `${registry.host}/plain:v1`,
          'truth',
          '/bin/sh',
          '-ec',
          TELL,
        );
      });
      after(async () => {
        for (const clean of ending) await clean();
      });

      /** Blobs of the image that containerd itself fetched since the log was emptied. */
      function blobsOfContainerd(): string[] {
        return registry.stats.log
          .filter(({ headers, url }) => /containerd/.test(String(headers['user-agent'])) && url.includes('/blobs/'))
          .map(({ url }) => url);
      }

      const lazyLabels = async () =>
        (await snapshots.list('kind==committed')).map(({ labels }) => labels['containerd.io/snapshot/nymph.lazy']);

      /** containerd with another configuration; it takes up what it had. */
      async function reconfigured(change: (toml: string) => string): Promise<void> {
        await containerd.stop();
        writeFileSync(containerd.config, change(toml));
        await containerd.start();
      }

      /** As after a disk was lost that had the cache, but not the snapshots. */
      async function forgetImages(): Promise<void> {
        await daemon.stop();
        for (const { directory: mounted } of mountsBelow(daemon.root)) await run('umount', ['-l', mounted]);
        for (const name of readdirSync(daemon.root))
          if (name !== 'snapshots') rmSync(join(daemon.root, name), { recursive: true });
        await daemon.start();
        await reached();
      }

      /** containerd tries a connection that was refused again after some seconds. */
      async function reached(): Promise<void> {
        const of = ['snapshots', '--snapshotter', 'nymph'];
        await until(120_000, 'containerd does not come back', () => containerd.good(...of, 'prepare', 'probe'));
        await containerd.good(...of, 'rm', 'probe');
      }

      async function removeAll(): Promise<void> {
        for (const name of [image(), `${registry.host}/plain:v1`]) await pods.removeImage(name);
        await nothingLeft();
      }

      async function nothingLeft(): Promise<void> {
        await until(60_000, 'something is left', async () => {
          const left = (await snapshots.list()).map(({ name }) => name);
          const mounts = mountsBelow(daemon.root).map((entry) => entry.directory);
          const directories = onDisk(join(daemon.root, 'snapshots')).ids;
          if (left.length + mounts.length + directories.length === 0) return true;
          throw new Error(JSON.stringify({ left, mounts, directories }));
        });
      }

      test('a pod of the kubelet', async () => {
        registry.stats.log.length = 0;
        await pods.pull(image());
        assert.equal(blobsOfContainerd().length, 1, `the configuration alone: ${blobsOfContainerd()}`);
        assert.deepEqual(await lazyLabels(), ['true', 'true', 'true']);
        const pod = await pods.run('pod', image(), PAUSE);
        const told = await pod.exec('/bin/sh', '-ec', TELL);
        assert.equal(told.out, truth, told.err);
        const wrote = await pod.exec(
          '/bin/sh',
          '-ec',
          'echo written > /etc/base; cat /etc/base; echo x > /etc/new; ls /etc/new',
        );
        assert.equal(wrote.out, 'written\n/etc/new\n', wrote.err);
        await pod.remove();
        await removeAll();
      });

      /** A daemon that starts holds no image for a container that may follow a pull. */
      async function unusedImages(): Promise<void> {
        await until(120_000, 'containerd keeps the snapshot of a container that is gone', async () => {
          const used = (await snapshots.list()).filter(({ kind }) => kind !== 'COMMITTED');
          if (used.length === 0) return true;
          // What it could not remove at once it collects when something else goes.
          await containerd.good('leases', 'create', '--id', 'collected');
          await containerd.good('leases', 'rm', '--sync', 'collected');
          await sleep(500);
          throw new Error(used.map(({ name }) => name).join(', '));
        });
        const { pid } = await daemon.supervised();
        await daemon.kill('daemon');
        await daemon.another(pid);
        await until(120_000, 'images stay mounted', async () =>
          (await daemon.client.mounts()).length === 0 ? true : undefined,
        );
        await reached();
      }

      test('what containerd has is not pruned though no container runs, and goes once containerd has removed it', async () => {
        await pods.pull(image());
        const first = await pods.run('kept-once', image(), PAUSE);
        assert.equal((await first.exec('/bin/sh', '-ec', TELL)).out, truth);
        await first.remove();
        await unusedImages();
        const { digest } = (await daemon.client.images()).find(({ reference }) => reference.startsWith(image()))!;
        assert.deepEqual(await daemon.client.prune({ target: 0 }), { freed: 0, blobs: [], images: [] });

        const before = registry.stats.blobs;
        const second = await pods.run('kept-twice', image(), PAUSE);
        assert.equal((await second.exec('/bin/sh', '-ec', TELL)).out, truth);
        assert.equal(registry.stats.blobs, before, 'all of it was here');
        await second.remove();
        await unusedImages();
        await removeAll();
        const pruned = await daemon.client.prune({ target: 0 });
        assert.deepEqual(pruned.images, [digest]);
        assert.ok(pruned.blobs.length > 0);
      });

      test('a pod of an image that nymph rpull brought', async () => {
        const { status, err } = await daemon.nymph('rpull', '--namespace', 'k8s.io', image());
        assert.equal(status, 0, err);
        assert.deepEqual(await lazyLabels(), ['true', 'true', 'true']);
        const pod = await pods.run('brought', image(), PAUSE);
        assert.equal((await pod.exec('/bin/sh', '-ec', TELL)).out, truth);
        await pod.remove();
        await removeAll();
      });

      test('what a container will run is sent for before it starts', async () => {
        const tool = `${registry.host}/app:tool`;
        const { status, err } = await daemon.nymph('rpull', tool);
        assert.equal(status, 0, err);
        const before = (await daemon.client.images()).find(({ reference }) => reference.startsWith(tool))!;
        const of = ['--snapshotter', 'nymph', '--env', 'PATH=/bin:/usr/local/bin', tool, 'foreseen'];
        await containerd.good('containers', 'create', ...of, 'tool', 'serve');
        await until(30_000, 'the program does not come', async () => {
          const { ready } = await daemon.client.image(before.digest);
          return ready - before.ready >= TOOL_SIZE ? true : undefined;
        });
        await containerd.good('containers', 'rm', 'foreseen');
        await containerd.good('images', 'rm', '--sync', tool);
        await nothingLeft();
      });

      /** As containerd names the layer with changed owners. */
      async function remapped(): Promise<string> {
        const [info] = await snapshots.list('labels."containerd.io/snapshot/nymph.remapped"');
        return info.name.replace(/^default\/\d+\//, '');
      }

      test('a container with mapped ids', async (t) => {
        if (containerd.version.startsWith('1.'))
          return t.skip('needs containerd 2.0: earlier ones do not map the ids of mounts');
        const { status, err } = await daemon.nymph('rpull', image());
        assert.equal(status, 0, err);
        // Root of the container has to reach its files.
        chmodSync(dirname(containerd.directory), 0o711);
        const maps = ['--uidmap', '0:100000:65536', '--gidmap', '0:200000:65536', '--remap-labels'];
        const of = ['--snapshotter', 'nymph', image(), 'mapped', '/bin/sh', '-ec'];
        const script = `${TELL}; echo mapped > /etc/base; ls -dln /etc/base /large`;
        // Without the capability containerd changes the owner of every file; with it the mounts map the ids.
        for (const capabilities of ['', 'capabilities = ["remap-ids"]']) {
          await reconfigured((toml) => toml.replaceAll('type = "snapshot"', `type = "snapshot"\n${capabilities}`));
          const said = await containerd.good('run', '--rm', ...maps, ...of, script);
          assert.equal(said.slice(0, truth.length), truth);
          assert.equal(said.slice(truth.length).match(/^\S+ +\d+ 0 +0 /gm)?.length, 2, said);
          if (capabilities === '') await containerd.good('snapshots', '--snapshotter', 'nymph', 'rm', await remapped());
        }
        await reconfigured((toml) => toml);
        await containerd.good('images', 'rm', '--sync', image());
        await nothingLeft();
      });

      test('a pod whose kubelet does not say which image it is', async () => {
        // The same as a puller of containerd's older ways: no labels but those of the layers.
        await reconfigured((toml) =>
          toml.replace(/^.*(?:disable_snapshot|enable_remote_snapshot)_annotations.*$/gm, ''),
        );
        registry.stats.log.length = 0;
        await pods.pull(image());
        assert.equal(blobsOfContainerd().length, 2, `configuration and bootstrap: ${blobsOfContainerd()}`);
        const labels = (await lazyLabels()).sort();
        assert.deepEqual(labels.slice(1), ['true', 'true']);
        assert.match(labels[0], /^false: .*bootstrap/);
        const pod = await pods.run('pod', image(), PAUSE);
        assert.equal((await pod.exec('/bin/sh', '-ec', TELL)).out, truth);
        await pod.remove();
        await removeAll();
        await reconfigured((toml) => toml);
      });

      for (const snapshotter of ['nymph', 'nydus'])
        test(`nerdctl --snapshotter ${snapshotter}: run, exec, write, commit, remove`, {
          skip: noNerdctl,
        }, async () => {
          const nerdctl = async (...args: string[]) => {
            const options = ['--address', containerd.address, '--snapshotter', snapshotter, '--insecure-registry'];
            options.push('--data-root', join(daemon.directory, 'nerdctl'), '--cgroup-manager', 'cgroupfs');
            const { status, out, err } = await run('nerdctl', [...options, ...args]);
            assert.equal(status, 0, `nerdctl ${args.join(' ')}: ${err}`);
            return out.toString();
          };
          registry.stats.log.length = 0;
          const told = await nerdctl('run', '--rm', '--net', 'host', image(), '/bin/sh', '-ec', TELL);
          assert.equal(told, truth);
          assert.ok(blobsOfContainerd().length <= 2, `no data: ${blobsOfContainerd()}`);
          const name = `c-${snapshotter}`;
          await nerdctl('run', '-d', '--name', name, '--net', 'host', image());
          assert.equal(await nerdctl('exec', name, '/bin/sh', '-ec', 'echo more > /etc/base; cat /etc/base'), 'more\n');
          await nerdctl('rm', '-f', name);
          await nerdctl('rmi', '-f', image());
          await removeAll();
        });

      test('an ordinary image with a Nydus image beside it, and another one on its first layer', async () => {
        const both = `${registry.host}/app:both`;
        const sibling = `${registry.host}/plain:sibling`;
        registry.stats.log.length = 0;
        await pods.pull(both);
        assert.ok(blobsOfContainerd().length <= 1, `the configuration at most: ${blobsOfContainerd()}`);
        assert.deepEqual(await lazyLabels(), ['true', 'true']);
        const pod = await pods.run('both', both, PAUSE);
        assert.equal((await pod.exec('/bin/sh', '-ec', TELL)).out, truth);
        await pods.pull(sibling);
        const other = await pods.run('sibling', sibling, PAUSE);
        const told = await other.exec(
          '/bin/sh',
          '-ec',
          'cat /etc/sibling /etc/base /replaced /opaque/hidden /gone/a; ls /',
        );
        assert.match(
          told.out,
          /^another image\nbase etc\/base\nbase replaced\nbase opaque\/hidden\nbase gone\/a\n/,
          told.err,
        );
        assert.doesNotMatch(told.out, /large/);
        for (const one of [pod, other]) await one.remove();
        for (const name of [both, sibling]) await pods.removeImage(name);
        await removeAll();
      });

      test('a layer that cannot be unpacked after all fails its snapshot soon, and says why', async () => {
        // Nobody on this machine may have the layer; and containerd has something of nymph's to collect.
        await containerd.good('images', 'rm', '--sync', `${registry.host}/plain:v1`);
        const of = ['--namespace', 'k8s.io', 'snapshots', '--snapshotter', 'nymph'];
        await pods.pull(`${registry.host}/app:both`);
        const piece = (await snapshots.list('kind==committed')).find(({ parent }) => parent === '')!;
        const blob = join(nydus, 'blobs', piece.labels['containerd.io/snapshot/cri.layer-digest'].replace(':', '/'));
        await containerd.good(...of, 'prepare', 'to-collect');
        await containerd.good(...of, 'rm', 'to-collect');
        renameSync(blob, `${blob}.away`);
        const begun = performance.now();
        const failed = await containerd.ctr(...of, 'prepare', 'upon', piece.labels['containerd.io/snapshot.ref']);
        const took = performance.now() - begun;
        renameSync(`${blob}.away`, blob);
        assert.notEqual(failed.status, 0);
        assert.match(failed.err, /404/);
        // containerd's collector waits for the end of the call: who waits for the collector there waits for himself.
        assert.ok(took < 45_000, `${took} ms`);
        await containerd.good(...of, 'prepare', 'upon', piece.labels['containerd.io/snapshot.ref']);
        await containerd.good(...of, 'rm', 'upon');
        await pods.removeImage(`${registry.host}/app:both`);
        await removeAll();
      });

      test('30 containers at once fetch each chunk once', async () => {
        await forgetImages();
        await pods.pull(image());
        const names = Array.from({ length: 30 }, (_, i) => `many-${i}`);
        const told = await Promise.all(
          names.map(async (name) => {
            const pod = await pods.run(name, image(), PAUSE);
            const { out } = await pod.exec('/bin/sh', '-ec', TELL);
            await pod.remove();
            return out;
          }),
        );
        for (const [i, out] of told.entries()) assert.equal(out, truth, names[i]);
        const status = await daemon.client.status();
        const fetched = Object.values(status.fetch.bytes).reduce((sum, bytes) => sum + bytes, 0);
        const [{ storedSize }] = status.images;
        assert.ok(fetched > 6e6 && fetched <= storedSize * 1.02, `${fetched} of ${storedSize} bytes`);
        await removeAll();
      });

      test('an image that cannot be had fails the container, and says why', async () => {
        await pods.pull(image());
        await forgetImages();
        registry.faults.status = { code: 404, on: 'manifest' };
        await assert.rejects(pods.run('lost', image(), PAUSE), /404|not found|no such/i);
        registry.faults.status = undefined;
        const pod = await pods.run('found', image(), PAUSE);
        assert.equal((await pod.exec('/bin/sh', '-ec', TELL)).out, truth);
        await pod.remove();
        await removeAll();
      });
    });
});

/** Of containerd 2.1 and later: the transfer service says so. */
function secondConfig(socket: string, pause: string): string {
  const plugin = (name: string) => `[proxy_plugins.${name}]
  type = "snapshot"
  address = "${socket}"
  [proxy_plugins.${name}.exports]
    enable_remote_snapshot_annotations = "true"
`;
  const unpack = (name: string) => `[[plugins."io.containerd.transfer.v1.local".unpack_config]]
  platform = "linux"
  snapshotter = "${name}"
`;
  return `version = 3
${plugin('nymph')}${plugin('nydus')}${unpack('overlayfs')}${unpack('nymph')}
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "nymph"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "${pause}"
[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
`;
}
