/** Trees of images have a FUSE connection of their own: what it is for, and what becomes of it with whoever serves it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, mkdtempSync, openSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { INHERITED_ENV, TREES_ENV } from '../../src/daemon/supervision.ts';
import { kernelHasPassthrough } from '../../src/fuse/backing.ts';
import { umount } from '../../src/mount/kernel.ts';
import { abortFuse, cannotMount, mountsBelow, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { APP_LAYOUT, PROJECT } from '../fixtures.ts';
import { makeModel } from '../model.ts';

const IMAGE = `oci:${APP_LAYOUT}:nydus`;
const needsTwo = () => cannotMount() || (!kernelHasPassthrough() && 'needs Linux 6.9: before, one connection does');

describe('the connection for trees of images', { skip: needsTwo() }, () => {
  const layout = mkdtempSync('/tmp/nymph-');
  after(() => rmSync(layout, { recursive: true }));
  makeModel(layout, 'm', [{ path: 'weights.bin', bytes: Buffer.alloc(3 << 20, 'w') }]);

  async function mounted(daemon: TestDaemon, name: string, reference: string): Promise<string> {
    const place = daemon.place(name);
    const { status, err } = await daemon.nymph('mount', '--via', 'fuse', reference, place);
    assert.equal(status, 0, err);
    return place;
  }

  const deviceOf = (path: string) => mountsBelow(path).at(-1)?.device;

  async function sumOf(place: string): Promise<string> {
    const script = 'cd "$0" && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum';
    const { status, out, err } = await run('sh', ['-c', script, place], { timeout: 60_000 });
    assert.equal(status, 0, err);
    return out.toString();
  }

  test('comes with the first such tree; models stay on the other; files are opened while nobody answers', async (t) => {
    const daemon = await testDaemon(t);
    const [main, second] = ['fs', 'fs.trees'].map((name) => join(daemon.directory, name));
    const model = await mounted(daemon, 'model', `oci:${layout}:m`);
    assert.deepEqual(mountsBelow(second), []);
    const image = await mounted(daemon, 'image', IMAGE);
    assert.deepEqual([deviceOf(model), deviceOf(image)], [deviceOf(main), deviceOf(second)]);
    assert.notEqual(deviceOf(main), deviceOf(second));

    const right = [await sumOf(image), await sumOf(model)];
    const { pid } = await daemon.client.health();
    process.kill(pid, 'SIGSTOP');
    try {
      // Names and pages are remembered, and to open and close a file nobody is asked. Directories would be.
      const { status } = await run('cat', [join(image, 'bin/app')], { timeout: 20_000 });
      assert.equal(status, 0);
    } finally {
      process.kill(pid, 'SIGCONT');
    }
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.deepEqual([await sumOf(image), await sumOf(model)], right);
    const other = await mounted(daemon, 'other', IMAGE);
    assert.equal(deviceOf(other), deviceOf(second), 'the next daemon uses it, too');
    for (const place of [image, other]) assert.equal((await daemon.nymph('umount', place)).status, 0);
    await daemon.stop();
    assert.deepEqual([...mountsBelow(main), ...mountsBelow(second)], []);
    assert.deepEqual(daemon.logged('taken away'), []);
  });

  test('taken away by somebody: images are mounted again on a new one, and nothing else is lost', async (t) => {
    const daemon = await testDaemon(t);
    const second = join(daemon.directory, 'fs.trees');
    const model = await mounted(daemon, 'model', `oci:${layout}:m`);
    const image = await mounted(daemon, 'image', IMAGE);
    const right = [await sumOf(image), await sumOf(model)];
    const before = { pid: (await daemon.client.health()).pid, model: deviceOf(model) };
    assert.ok(await abortFuse(daemon.directory, mountsBelow(second)[0]));
    const next = await daemon.another(before.pid);
    assert.deepEqual([await sumOf(image), await sumOf(model)], right);
    assert.equal(mountsBelow(image).length, 1);
    assert.equal(deviceOf(image), deviceOf(second));
    assert.equal(deviceOf(model), before.model);

    assert.equal((await daemon.nymph('umount', image)).status, 0);
    assert.equal(await umount(second, false), undefined);
    await daemon.another(next.pid);
    await mounted(daemon, 'image', IMAGE);
    assert.deepEqual([await sumOf(image), await sumOf(model)], right);
    await daemon.told('the FUSE mount of trees was taken away');
    await daemon.stop();
  });

  test('out of sight: who reads there is served on, and other trees are on the first connection', async (t) => {
    const daemon = await testDaemon(t);
    const [main, second] = ['fs', 'fs.trees'].map((name) => join(daemon.directory, name));
    const image = await mounted(daemon, 'image', IMAGE);
    const right = await sumOf(image);
    assert.equal(await umount(second, true), undefined);
    const other = await mounted(daemon, 'other', IMAGE);
    assert.equal(deviceOf(other), deviceOf(main));
    assert.deepEqual([await sumOf(image), await sumOf(other)], [right, right]);
    // The same tree in use on one connection without a mount, while that on the other goes.
    const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => daemon.place(name));
    const options = `lowerdir=${other},upperdir=${upper},workdir=${work}`;
    assert.equal((await run('mount', ['-t', 'overlay', 'overlay', '-o', options, merged])).status, 0);
    for (const place of [other, image]) {
      const { status, err } = await daemon.nymph('umount', place);
      assert.equal(status, 0, err + daemon.logged('').slice(-8).join('\n'));
    }
    assert.equal(await sumOf(merged), right);
    assert.equal(await umount(merged, false), undefined);
    await until(30_000, 'the blobs are not given back', async () =>
      (await daemon.client.status()).cache.openBlobs === 0 ? true : undefined,
    );
    await daemon.stop();
  });

  test('the first is lost while this one is kept: who reads a tree waits, and is served on', async (t) => {
    const daemon = await testDaemon(t, { start: false });
    const [fuse, newFuse, trees] = [0, 0, 0].map(() => openSync('/dev/fuse', 'r+'));
    const first = await serve(t, daemon, { fuse, trees, env: { [TREES_ENV]: 'new' } });
    const image = await mounted(daemon, 'image', IMAGE);
    const model = await mounted(daemon, 'model', `oci:${layout}:m`);
    const right = [await sumOf(image), await sumOf(model)];
    const [device] = mountsBelow(image);
    await killed(first);
    closeSync(fuse);
    const reading = sumOf(image);
    await serve(t, daemon, { fuse: newFuse, trees, env: { [TREES_ENV]: 'inherited' } });
    assert.equal(await reading, right[0]);
    assert.deepEqual([await sumOf(image), await sumOf(model)], right);
    assert.deepEqual(mountsBelow(image), [device], 'it is the same mount');
    for (const fd of [newFuse, trees]) closeSync(fd);
    await daemon.stop();
  });

  test('lost while the other one is kept: trees are made again at their places', async (t) => {
    const daemon = await testDaemon(t, { start: false });
    const [fuse, trees, newTrees] = [0, 0, 0].map(() => openSync('/dev/fuse', 'r+'));
    const image = daemon.place('image');
    const first = await serve(t, daemon, { fuse, trees, env: { [TREES_ENV]: 'new' } });
    await mounted(daemon, 'image', IMAGE);
    const right = await sumOf(image);
    await killed(first);
    closeSync(trees);
    await until(10_000, 'the connection is still there', async () => {
      const { status } = await run('stat', ['-f', image], { timeout: 10_000 });
      return status !== 0 || undefined;
    });
    const inherited = { [INHERITED_ENV]: '1' };
    const next = await serve(t, daemon, { fuse, trees: newTrees, env: { ...inherited, [TREES_ENV]: 'new' } });
    assert.equal(await sumOf(image), right);
    assert.equal(mountsBelow(image).length, 1);
    await killed(next);

    // As a supervisor of an earlier version starts it: it has one descriptor to give.
    closeSync(newTrees);
    await serve(t, daemon, { fuse, env: inherited });
    assert.equal(await sumOf(image), right);
    assert.equal(deviceOf(image), deviceOf(join(daemon.directory, 'fs')));
    closeSync(fuse);
    await daemon.stop();
  });

  /** Starts a daemon without a supervisor, on given descriptors. */
  async function serve(
    t: { after(clean: () => void): void },
    daemon: TestDaemon,
    { fuse, trees, env }: { fuse: number; trees?: number; env: NodeJS.ProcessEnv },
  ): Promise<ChildProcess> {
    const main = join(PROJECT, 'src', 'daemon', 'main.ts');
    const child = spawn(
      process.execPath,
      ['--disable-warning=ExperimentalWarning', main, '--config', join(daemon.directory, 'config.toml')],
      { stdio: ['ignore', 'ignore', 'ignore', fuse, 'ignore', trees ?? 'ignore'], env: { ...process.env, ...env } },
    );
    t.after(() => void child.kill('SIGKILL'));
    await until(60_000, 'no daemon answers', async () => (await daemon.client.health()).pid === child.pid || undefined);
    return child;
  }

  async function killed(child: ChildProcess): Promise<void> {
    const end = new Promise((resolve) => child.once('exit', resolve));
    child.kill('SIGKILL');
    await end;
  }
});
