/** Images mounted as FUSE trees: who may read them, what the kernel is told, and what becomes of them at umounts and restarts. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, type TestContext, test } from 'node:test';
import koffi from 'koffi';
import type { MountInfo } from '../../src/daemon/api.ts';
import { cannotMount, mountsBelow, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { APP_LAYOUT, unpackKinds } from '../fixtures.ts';
import { makeImage } from '../made-image.ts';

const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];
const setxattr = koffi
  .load('libc.so.6')
  .func('int setxattr(const char *path, const char *name, const uint8_t *value, size_t size, int flags)');
const APP = `oci:${APP_LAYOUT}:nydus`;

async function mounted(t: TestContext, reference: string, ...options: string[]): Promise<[TestDaemon, string]> {
  const daemon = await testDaemon(t);
  const place = daemon.place('m');
  const { status, err } = await daemon.nymph(
    'mount',
    '--prefetch',
    'none',
    '--via',
    'fuse',
    ...options,
    reference,
    place,
  );
  assert.equal(status, 0, err);
  return [daemon, place];
}

/** Standard output of a script, `$0` is `place`. */
async function sh(script: string, place: string): Promise<string> {
  const { status, out, err } = await run('sh', ['-c', script, place], { timeout: 20_000 });
  assert.equal(status, 0, err);
  return out.toString().trim();
}

describe('FUSE trees', { skip: cannotMount() }, () => {
  const kinds = mkdtempSync(join(tmpdir(), 'nymph-kinds-'));
  unpackKinds(join(kinds, 'kinds'));
  after(() => rmSync(kinds, { recursive: true }));
  const sample = `rafs:${join(kinds, 'kinds', 'v6-zstd-batch')}`;

  test('everybody reads what modes allow, and programs run; nobody but root looks in from above', async (t) => {
    const [daemon, place] = await mounted(t, APP);
    await run('chmod', ['755', daemon.directory]);
    const as = (...command: string[]) => run('setpriv', [...NOBODY, ...command]);
    const reads = await as('sh', '-c', 'cat "$0"/srv/pages/*.html | wc -c', place);
    assert.ok(reads.status === 0 && Number(reads.out) > 0, reads.err);
    const program = await as(join(place, 'bin/app'), '--version');
    assert.equal(program.signal, null);
    assert.doesNotMatch(program.err, /denied/i);
    const trees = join(daemon.directory, 'fs', 'trees');
    const [tree] = readdirSync(trees);
    for (const path of [trees, join(trees, tree), join(daemon.directory, 'fs', 'blobs')])
      assert.match((await as('ls', path)).err, /Permission denied/, path);
    const [entry] = mountsBelow(place);
    assert.deepEqual([entry.type, entry.root], ['fuse', `/trees/${tree}`]);
    assert.match((await run('sh', ['-c', 'echo x > "$0"/new', place])).err, /Read-only/);
  });

  test('the kernel is told of attributes, links, dots and names that are not there', async (t) => {
    const [, place] = await mounted(t, sample);
    const script = `
      import { execFileSync } from 'node:child_process';
      import koffi from 'koffi';
      const libc = koffi.load('libc.so.6');
      const list = libc.func('long llistxattr(const char *path, _Out_ void *list, size_t size)');
      const get = libc.func('long lgetxattr(const char *path, const char *name, _Out_ void *value, size_t size)');
      const place = process.argv[1];
      const found = [];
      for (const text of execFileSync('find', [place, '-print0'], { encoding: 'latin1' }).split('\\0').slice(0, -1)) {
        const path = Buffer.from(text + '\\0', 'latin1');
        const size = list(path, null, 0);
        if (size <= 0) continue;
        const names = Buffer.alloc(size);
        const short = size > 1 ? list(path, Buffer.alloc(1), 1) : -1;
        if (list(path, names, size) !== size || short !== -1) throw new Error('sizes differ');
        for (const one of names.toString('latin1').split('\\0').slice(0, -1)) {
          const length = get(path, Buffer.from(one + '\\0', 'latin1'), null, 0);
          if (length < 0 || get(path, Buffer.from(one + '\\0', 'latin1'), Buffer.alloc(length + 1), length + 1) !== length)
            throw new Error(one);
          found.push(one);
        }
      }
      console.log(JSON.stringify([...new Set(found)].sort()));`;
    const { status, out, err } = await run(process.execPath, ['--input-type=module', '-e', script, place]);
    assert.equal(status, 0, err);
    const names = JSON.parse(out.toString()) as string[];
    assert.ok(names.includes('security.capability') && names.some((name) => name.startsWith('user.')), names.join());
    assert.equal(await sh('ls -f "$0" | head -2 | tr "\\n" " "', place), '. ..');
    // Numbers are unique, and those of further names are the same.
    assert.equal(await sh('find "$0" -printf "%i %n\\n" | sort -u | cut -d" " -f1 | uniq -d', place), '');
    assert.equal(await sh('find "$0" -type f -links +1 -printf "%i\\n" | sort | uniq -u', place), '');
    assert.match((await run('cat', [join(place, 'none')])).err, /No such file/);
    assert.match((await run('cat', [join(place, 'none')])).err, /No such file/);
  });

  test('neither names nor closing files costs the main thread anything', async (t) => {
    const [daemon, place] = await mounted(t, APP);
    const sum = 'find "$0" -ls >/dev/null && find "$0" -type f -print0 | xargs -0 -n 1 cat | wc -c';
    assert.ok(Number(await sh(sum, place)) > 0);
    const { requests, faults } = (await daemon.client.status()).fuse;
    const total = Object.values(requests).reduce((all, count) => all + count, 0);
    assert.ok(total - faults < 20, JSON.stringify(requests));
  });

  test('access control lists count, by EROFS and in a tree alike', async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'nymph-acl-'));
    t.after(() => rmSync(directory, { recursive: true }));
    const { layout } = await makeImage(directory, 'acl', (tree) => {
      for (const name of ['listed', 'plain']) writeFileSync(join(tree, name), name, { mode: 0o600 });
      // Version 2; owner rw-, user 65534 r--, group ---, mask r--, other --- (linux/posix_acl_xattr.h).
      const entries = [
        [1, 6],
        [2, 4, 65534],
        [4, 0],
        [16, 4],
        [32, 0],
      ];
      const value = Buffer.alloc(4 + 8 * entries.length);
      value.writeUInt32LE(2);
      for (const [i, [tag, rights, id = 0xffffffff]] of entries.entries()) {
        value.writeUInt16LE(tag, 4 + 8 * i);
        value.writeUInt16LE(rights, 6 + 8 * i);
        value.writeUInt32LE(id, 8 + 8 * i);
      }
      const name = 'system.posix_acl_access';
      assert.equal(setxattr(join(tree, 'listed'), name, value, value.length, 0), 0, 'the disk keeps no ACLs');
    });
    const daemon = await testDaemon(t);
    await run('chmod', ['755', daemon.directory]);
    for (const via of ['erofs', 'fuse']) {
      const place = daemon.place(via);
      assert.equal((await daemon.nymph('mount', '--via', via, `oci:${layout}:acl`, place)).status, 0);
      const nobody = (name: string) => run('setpriv', [...NOBODY, 'cat', join(place, name)]);
      assert.equal((await nobody('listed')).out.toString(), 'listed', via);
      assert.match((await nobody('plain')).err, /Permission denied/, via);
    }
  });

  test('a daemon that starts again serves the tree on, one that starts afresh makes it again', async (t) => {
    const [daemon, place] = await mounted(t, APP);
    const sum = 'cd "$0" && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum';
    const right = await sh(sum, place);
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.equal(await sh(sum, place), right);
    const [before] = mountsBelow(place);
    await daemon.kill('supervisor', 'daemon');
    const dead = await run('stat', ['-f', place], { timeout: 10_000 });
    assert.notEqual(dead.status, 0);
    await daemon.start();
    assert.equal(await sh(sum, place), right);
    const entries = mountsBelow(place);
    assert.equal(entries.length, 1);
    assert.equal(entries[0].root, before.root, 'numbers stay');
    assert.equal((await daemon.nymph('umount', place)).status, 0);
    assert.deepEqual(mountsBelow(place), []);
  });

  test('what reads a tree without its mount is served until it ends, by the next daemon too', async (t) => {
    const [daemon, place] = await mounted(t, APP);
    const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => daemon.place(name));
    const other = daemon.place('other');
    const options = `lowerdir=${place},upperdir=${upper},workdir=${work}`;
    await sh(`mount -t overlay overlay -o ${options} ${merged}`, place);
    assert.equal((await daemon.nymph('mount', '--via', 'fuse', APP, other)).status, 0);
    await sh('mount -t tmpfs tmpfs "$0"/proc', other);
    assert.equal((await daemon.nymph('umount', place)).status, 0);
    assert.equal(mountsBelow(other).length, 2, 'what is mounted in the other one stays');
    await sh('umount "$0"/proc', other);
    assert.equal((await daemon.nymph('umount', other)).status, 0);
    assert.equal((await daemon.client.status()).cache.openBlobs > 0, true);
    assert.ok(Number(await sh('cat "$0"/srv/pages/*.html | wc -c', merged)) > 0);
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.ok(Number(await sh('find "$0" -type f -print0 | xargs -0 cat | wc -c', merged)) > 0);
    await sh('umount "$0"', merged);
    await until(15_000, 'the blobs are not given back', async () =>
      (await daemon.client.status()).cache.openBlobs === 0 ? true : undefined,
    );
  });

  test('a mount in use is busy; detached by force it is served to its user', async (t) => {
    const [daemon, place] = await mounted(t, APP);
    const reader = sh('cd "$0" && sleep 3 && cat srv/pages/*.html | wc -c', place);
    await until(5000, 'the reader does not start', async () => {
      const { status, json } = await daemon.nymph('umount', place);
      if (status === 0) throw new Error('it was not in use yet');
      return (json as { error: { code: string } }).error.code === 'busy' || undefined;
    });
    assert.equal((await daemon.nymph('umount', '--force', place)).status, 0);
    assert.deepEqual(mountsBelow(place), []);
    assert.ok(Number(await reader) > 0);
  });

  test('where the kernel takes no image files, the image becomes a tree, and the reason is told', async (t) => {
    const directory = mkdtempSync('/tmp/nymph-');
    t.after(async () => {
      await run('umount', ['-l', directory]);
      rmSync(directory, { recursive: true, force: true });
    });
    assert.equal((await run('mount', ['-t', 'tmpfs', 'tmpfs', directory])).status, 0);
    const root = join(directory, 'r');
    mkdirSync(root);
    const daemon = await testDaemon(t, { root });
    const place = daemon.place('m');
    const refused = await daemon.nymph('mount', '--via', 'erofs', APP, place);
    assert.equal((refused.json as { error: { code: string } }).error.code, 'unsupported');
    const { status, json, err } = await daemon.nymph('mount', APP, place);
    assert.equal(status, 0, err);
    const { kind, reason } = json as MountInfo;
    assert.equal(kind, 'fuse');
    assert.match(reason!, /EROFS.*ENOTBLK/);
    assert.ok(Number(await sh('cat "$0"/srv/pages/*.html | wc -c', place)) > 0);
    const [info] = await daemon.client.mounts();
    assert.deepEqual([info.kind, info.reason, info.state], ['fuse', reason, 'ok']);
    // Asked for once more, by another way than it is mounted: refused; by the same: that is what is there.
    assert.equal((await daemon.nymph('mount', APP, place)).status, 0);
    assert.equal((await daemon.nymph('mount', '--via', 'erofs', APP, place)).status, 8);
  });
});
