/** The driver fuse-native in the whole program: as root, without root, and when the daemon dies. */
import assert from 'node:assert/strict';
import { chmodSync, chownSync, existsSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { MountInfo, Status } from '../../src/daemon/api.ts';
import { cannotMount, clearMounts, mountsBelow, NYMPH, run, testDaemon } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { noNativeDriver } from '../native.ts';

const APP = `oci:${APP_LAYOUT}:nydus`;
const PAGES = 'cat "$0"/srv/pages/*.html | wc -c';
const toml = '[fuse]\ndriver = "fuse-native"\n';
const NOBODY = 65534;
const UNPRIVILEGED = ['--reuid', `${NOBODY}`, '--regid', `${NOBODY}`, '--clear-groups'];

describe('fuse-native', { skip: cannotMount() || (await noNativeDriver()) }, () => {
  test('mounts are trees of libfuse; what needs the other driver is refused by name', async (t) => {
    const daemon = await testDaemon(t, { toml });
    const place = daemon.place('m');
    const erofs = await daemon.nymph('mount', '--via', 'erofs', APP, place);
    assert.match((erofs.json as { error: { message: string } }).error.message, /fuse-native/);
    const { json } = await daemon.nymph('mount', APP, place);
    assert.equal((json as MountInfo).kind, 'fuse');
    assert.match((json as MountInfo).reason!, /fuse-native/);
    assert.ok(Number((await run('sh', ['-c', PAGES, place])).out) > 0);
    const status = (await daemon.nymph('status')).json as Status;
    assert.equal(status.fuse.driver, 'fuse-native');
    assert.ok(status.fuse.hits + status.fuse.faults > 0);
    assert.equal(mountsBelow(daemon.directory).length, 1, 'there is no other mount');
    const busy = run('sh', ['-c', 'cd "$0" && sleep 2', place]);
    await run('sleep', ['0.5']);
    assert.equal((await daemon.nymph('umount', place)).status, 8);
    await busy;
    assert.equal((await daemon.nymph('umount', place)).status, 0);
    assert.deepEqual(mountsBelow(place), []);
    assert.equal((await daemon.nymph('prune', '--all')).status, 0);
    assert.equal((await daemon.client.status()).cache.blobs, 0);
  });

  test('when the daemon dies its mounts end with errors, and the next makes them again', async (t) => {
    const daemon = await testDaemon(t, { toml });
    const place = daemon.place('m');
    assert.equal((await daemon.nymph('mount', '--prefetch', 'none', APP, place)).status, 0);
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    assert.ok(Number((await run('sh', ['-c', PAGES, place])).out) > 0);
    assert.equal(mountsBelow(place).length, 1);
    await daemon.kill('supervisor', 'daemon');
    const dead = await run('stat', ['-f', place], { timeout: 10_000 });
    assert.match(dead.err, /not connected/);
    await daemon.start();
    assert.ok(Number((await run('sh', ['-c', PAGES, place])).out) > 0);
  });

  const noHelper = existsSync('/usr/bin/fusermount') || existsSync('/bin/fusermount') ? false : 'needs fusermount';

  test('a user without rights mounts, reads, verifies and unmounts', { skip: noHelper }, async (t) => {
    const reads = await run('setpriv', [...UNPRIVILEGED, 'test', '-r', NYMPH, '-a', '-x', process.execPath]);
    if (reads.status !== 0) return t.skip('other users cannot read this checkout');
    const directory = realpathSync(mkdtempSync('/tmp/nymph-'));
    t.after(async () => {
      await clearMounts(directory);
      rmSync(directory, { recursive: true, force: true });
    });
    chownSync(directory, NOBODY, NOBODY);
    // In a place of its own for mounts, with the device open to everybody, as udev makes it.
    const device = join(directory, 'device');
    assert.equal((await run('mknod', [device, 'c', '10', '229'])).status, 0);
    chmodSync(device, 0o666);
    const outer = `mount --bind ${device} /dev/fuse && exec setpriv ${UNPRIVILEGED.join(' ')} sh -ec "$0"`;
    const nymph = `${NYMPH} --root ${directory}/r --address ${directory}/s --driver fuse-native`;
    const script = `
      ${nymph} mount --prefetch none ${APP} ${directory}/m
      test $(cat ${directory}/m/srv/pages/*.html | wc -c) -gt 0
      ${nymph} verify ${directory}/m
      ! touch ${directory}/m/new 2>/dev/null
      ${nymph} umount ${directory}/m
      test -z "$(ls ${directory}/m 2>/dev/null)"
      ${nymph} daemon --stop`;
    const outcome = await run('unshare', ['-m', 'sh', '-c', outer, script], { env: { HOME: directory } });
    assert.equal(outcome.status, 0, `${outcome.out}\n${outcome.err}`);
    assert.match(outcome.out.toString(), /chunks right/);
  });
});
