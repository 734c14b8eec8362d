/** Containers from lazy images when what serves them dies, or does not answer. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { criConfig, noContainerd, type TestContainerd, testContainerd } from '../containerd.ts';
import { cannotMount, mountsBelow, NYMPH, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { copyPrograms, makeLayeredImage } from '../plain-image.ts';
import { type Pods, podClient } from '../pods.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { snapshotsClient } from '../snapshots.ts';
import { onDisk } from '../snapshotter-kit.ts';
import { makeBigFile } from '../tree.ts';

const skip =
  cannotMount() || noContainerd() || (spawnSync('runc', ['--version']).error ? 'not installed: runc' : false);
const PAUSE = ['/bin/sleep', '100000'];
const FILES = 40;
const FILE_SIZE = 300_000;

describe('containers from lazy images', { skip }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  const truth = new Map<string, string>();
  const ending: (() => void | Promise<void>)[] = [];
  const t = { after: (clean: () => void | Promise<void>) => void ending.unshift(clean) };
  let registry: TestRegistry;
  let daemon: TestDaemon;
  let containerd: TestContainerd;
  let pods: Pods;
  let image: string;

  before(async () => {
    const [plain, nydus, home] = ['plain', 'nydus', 'c'].map((name) => join(directory, name));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const fill = (tree: string) => {
      copyPrograms(tree, '/bin/sleep', '/usr/bin/sha256sum');
      for (const name of ['proc', 'sys', 'dev', 'run', 'tmp', 'data']) mkdirSync(join(tree, name));
      for (let i = 0; i < FILES; i++) {
        const bytes = Buffer.alloc(FILE_SIZE, createHash('sha512').update(String(i)).digest());
        writeFileSync(join(tree, 'data', `f${i}`), bytes);
        truth.set(`/data/f${i}`, createHash('sha256').update(bytes).digest('hex'));
      }
      makeBigFile(join(tree, 'data', 'big'), 8 << 20, 1);
    };
    makeLayeredImage(plain, 'v1', [fill], PAUSE);
    const converted = await run(NYMPH, ['convert', `oci:${plain}:v1`, `oci:${nydus}:nydus`]);
    assert.equal(converted.status, 0, converted.err);
    registry = await startRegistry({ layouts: { plain, app: nydus } });
    t.after(() => registry.close());
    image = `${registry.host}/app:nydus`;
    const address = join(home, 'containerd.sock');
    daemon = await testDaemon(t, {
      toml: `[fetch]\nprefetch = "none"\namplify = "0B"\n[containerd]\naddress = "${address}"\n`,
    });
    const toml = criConfig(join(daemon.directory, 'snapshotter.sock'), `${registry.host}/plain:v1`);
    containerd = await testContainerd(t, home, toml);
    pods = podClient(containerd.address);
    t.after(() => pods.close());
  });
  after(async () => {
    for (const clean of ending) await clean();
  });

  async function nothingLeft(): Promise<void> {
    await pods.removeAll();
    const client = snapshotsClient(join(daemon.directory, 'snapshotter.sock'));
    await until(60_000, 'something is left', async () => {
      const left = (await client.list()).map(({ name }) => name);
      const mounts = mountsBelow(daemon.root).map((entry) => entry.directory);
      const images = join(daemon.root, 'snapshots', 'images');
      const directories = [...onDisk(join(daemon.root, 'snapshots')).ids, ...readdirSync(images)];
      if (left.length + mounts.length + directories.length === 0) return true;
      throw new Error(JSON.stringify({ left, mounts, directories }));
    }).finally(() => client.close());
  }

  /** Every line must be right; @returns how many files were read. */
  function right(out: string): number {
    const lines = out.split('\n').filter(Boolean);
    for (const line of lines) {
      const [digest, path] = line.split(/\s+/);
      assert.equal(digest, truth.get(path), path);
    }
    return lines.length;
  }

  test('daemon and supervisor die in the same instant: old containers get EIO, new ones are right, nothing stays', async () => {
    const all = [...truth.keys()];
    await pods.pull(image);
    const old = await pods.run('old', image, PAUSE);
    assert.equal(right((await old.exec('/usr/bin/sha256sum', ...all.slice(0, 5))).out), 5);
    await daemon.kill('daemon', 'supervisor');
    await daemon.start();
    // containerd tries a connection that was refused again after some seconds.
    const next = await until(60_000, 'no new container', async () => {
      await pods.pull(image);
      return pods.run(`new-${Date.now()}`, image, PAUSE);
    });
    const seen = await old.exec('/usr/bin/sha256sum', ...all);
    assert.notEqual(seen.status, 0);
    assert.ok(right(seen.out) < all.length);
    // If a page of the program itself cannot be read, that is SIGBUS.
    if (seen.status !== 128 + 7) assert.match(seen.err, /Input\/output error/);
    assert.equal(right((await next.exec('/usr/bin/sha256sum', ...all)).out), all.length);
    assert.equal(mountsBelow(join(daemon.root, 'snapshots', 'images')).length, 1);
    // The old one can be removed, and takes nothing from the new one.
    await old.remove();
    const { out } = await next.exec('/usr/bin/sha256sum', ...all);
    assert.equal(right(out), all.length);
    await nothingLeft();
  });

  test('a container that waits for a chunk dies at once when it is killed', async (t) => {
    await pods.pull(image);
    const pod = await pods.run('waits', image, PAUSE);
    await pod.exec('/usr/bin/sha256sum', '/data/f0');
    registry.faults.blob = { kind: 'stall', after: 1000 };
    const reading = pod.exec('/usr/bin/sha256sum', '/data/big').then(
      ({ status }) => status,
      () => 'failed',
    );
    await until(30_000, 'nobody waits', async () => (await daemon.client.status()).fuse.waiting > 0 || undefined);
    const begun = performance.now();
    await pod.remove();
    const seconds = (performance.now() - begun) / 1000;
    t.diagnostic(`gone after ${seconds.toFixed(1)} s`);
    // A read has a minute to get its bytes.
    assert.ok(seconds < 20, `${seconds} s`);
    assert.notEqual(await reading, 0);
    registry.faults.blob = undefined;
    await nothingLeft();
  });
});
