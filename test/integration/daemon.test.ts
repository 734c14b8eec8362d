/** Who may do what while a daemon runs: one root, one daemon; busy directories; mounts in use. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { abortFuse, cannotMount, mountsBelow, NYMPH, run, testDaemon, until } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { startRegistry } from '../registry/registry.ts';
import { makeBigFile, makeManyFiles } from '../tree.ts';

interface Failure {
  error: { code: string; message: string; hint?: string };
}

describe('a daemon and its clients', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  let reference: string;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => {
      makeManyFiles(tree, { count: 20 });
      makeBigFile(join(tree, 'big'), 4 << 20);
    });
    reference = `oci:${image.layout}:made`;
  });
  after(() => rmSync(directory, { recursive: true, force: true }));
  const same = async (place: string) => assert.equal((await run('diff', ['-r', image.truth, place])).status, 0);

  test('a second daemon on the same root is refused and disturbs nothing', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place });
    const other = join(daemon.directory, 'other.sock');
    for (const address of [daemon.address, other]) {
      const second = await run(NYMPH, ['--root', daemon.root, '--address', address, 'daemon']);
      assert.equal(second.status, 8, second.err);
      assert.match(second.err, /another daemon serves .*\/fs|in use by process/);
    }
    await same(place);
    assert.equal(mountsBelow(daemon.directory).filter((entry) => entry.type === 'fuse').length, 1);
  });

  test('two mounts at once where no daemon runs both succeed', async (t) => {
    const daemon = await testDaemon(t, { start: false });
    const places = ['a', 'b'].map((name) => join(daemon.directory, name));
    const mounted = await Promise.all(places.map((place) => daemon.nymph('mount', reference, place)));
    for (const { status, err } of mounted) assert.equal(status, 0, err);
    for (const place of places) await same(place);
    const { supervisor } = await daemon.client.health();
    assert.ok(supervisor !== undefined);
    await daemon.stop();
  });

  test('a directory that is a mount already, of this image, of another, of somebody else', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    assert.equal((await daemon.nymph('mount', reference, place)).status, 0);
    assert.equal((await daemon.nymph('mount', reference, place)).status, 0, 'the same again is no error');
    assert.equal(mountsBelow(place).length, 1);
    const second = await makeImage(directory, 'second', (tree) => makeManyFiles(tree, { count: 3, seed: 9 }));
    const refused = await daemon.nymph('mount', `oci:${second.layout}:second`, place);
    assert.equal(refused.status, 8);
    const { error } = refused.json as Failure;
    assert.equal(error.code, 'busy');
    assert.match(error.hint!, /umount/);
    await same(place);
    const file = await daemon.nymph('mount', reference, join(image.truth, 'big'));
    assert.notEqual(file.status, 0);
  });

  test('a mount that is in use: busy with a hint, then --force', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place, options: { prefetch: 'none' } });
    const user = spawn('sh', ['-c', 'exec 4<big; read line; cat <&4'], {
      cwd: place,
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    t.after(() => void user.kill('SIGKILL'));
    const got: Buffer[] = [];
    user.stdout.on('data', (data: Buffer) => got.push(data));
    const ended = new Promise((resolve) => user.once('close', resolve));
    await until(5000, 'the file is not open', async () => fds(user.pid!));
    const busy = await daemon.nymph('umount', place);
    assert.equal(busy.status, 8);
    const { error } = busy.json as Failure;
    assert.equal(error.code, 'busy');
    assert.match(error.hint!, /--force/);
    await same(place);
    const forced = await daemon.nymph('umount', '--force', place);
    assert.equal(forced.status, 0, forced.err);
    assert.deepEqual(mountsBelow(place), []);
    user.stdin.end('\n');
    await ended;
    assert.ok(Buffer.concat(got).equals(readFileSync(join(image.truth, 'big'))), 'who used it is served to its end');
    assert.equal((await daemon.nymph('mount', reference, place)).status, 0);
    await same(place);
  });

  test('a mount that somebody else took away can be made again, and unmounted', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place });
    assert.equal((await run('umount', [place])).status, 0);
    assert.notEqual((await daemon.client.mounts())[0]?.state, 'ok');
    assert.equal((await daemon.nymph('mount', reference, place)).status, 0);
    await same(place);
    assert.equal((await daemon.nymph('umount', place)).status, 0);
    const nothing = await daemon.nymph('umount', place);
    assert.equal(nothing.status, 3);
  });

  test('an image named by its digest that is here is mounted without asking anybody', async (t) => {
    const registry = await startRegistry({ layouts: { made: image.layout } });
    const daemon = await testDaemon(t);
    const first = await daemon.client.mount({ reference: `${registry.host}/made:made`, directory: daemon.place('m') });
    await daemon.client.pull({ reference: first.reference });
    await daemon.client.unmount(first.directory, false);
    await registry.close();
    const pinned = `${registry.host}/made@${first.digest}`;
    const second = await daemon.client.mount({ reference: pinned, directory: first.directory });
    assert.equal(second.digest, first.digest);
    await same(first.directory);
  });

  test('directories behind links', async (t) => {
    const daemon = await testDaemon(t);
    mkdirSync(join(daemon.directory, 'real'));
    symlinkSync('real', join(daemon.directory, 'link'));
    const place = join(daemon.directory, 'link', 'm');
    const mounted = await daemon.nymph('mount', reference, place);
    assert.equal((mounted.json as { directory: string }).directory, join(daemon.directory, 'real', 'm'));
    await daemon.client.mount({ reference, directory: place }); // the same again is no error
    await same(place);
    assert.equal((await daemon.nymph('umount', place)).status, 0);
  });

  test('stop and start: mounts come back, and the FUSE mount is made anew', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place });
    await daemon.stop();
    const fuse = () => mountsBelow(daemon.directory).filter((entry) => entry.type === 'fuse').length;
    assert.equal(fuse(), 0);
    await daemon.start();
    await same(place);
    assert.equal(fuse(), 1);
  });

  test('the FUSE mount is taken away: the daemon makes another and mounts again', async (t) => {
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await daemon.client.mount({ reference, directory: place, options: { prefetch: 'none' } });
    const { pid } = await daemon.client.health();
    const connection = mountsBelow(daemon.directory).find((entry) => entry.type === 'fuse')!;
    if (!(await abortFuse(daemon.directory, connection))) {
      t.skip('the kernel has no control of FUSE connections (fusectl)');
      return;
    }
    await daemon.another(pid);
    await same(place);
  });
});

/** True once a process has the file `big` open. */
async function fds(pid: number): Promise<true | undefined> {
  const { out } = await run('ls', ['-l', `/proc/${pid}/fd`]);
  return out.includes('/big') ? true : undefined;
}
