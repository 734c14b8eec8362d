/** What another user of the machine can do with the daemon and its mounts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cannotMount, run, type TestDaemon, testDaemon } from '../daemon.ts';
import { type MadeImage, makeImage } from '../made-image.ts';

const SOMEBODY = 65534;
const asSomebody = (...command: string[]) =>
  run('setpriv', [`--reuid=${SOMEBODY}`, `--regid=${SOMEBODY}`, '--clear-groups', '--', ...command]);
const noSetpriv = spawnSync('setpriv', ['--version']).error ? 'not installed: setpriv (util-linux)' : false;

describe('another user', { skip: cannotMount() || noSetpriv }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  before(async () => {
    image = await makeImage(directory, 'made', (tree) => {
      copyFileSync('/usr/bin/id', join(tree, 'id'));
      chmodSync(join(tree, 'id'), 0o4755);
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  /** A daemon whose directory everybody may enter, as `/run` is. */
  async function open(t: { after(clean: () => Promise<void>): void }): Promise<TestDaemon> {
    const daemon = await testDaemon(t, { toml: '[cri]\naddress = "ADDRESS"\n', start: false });
    await run('sed', ['-i', `s|ADDRESS|${daemon.directory}/cri.sock|`, join(daemon.directory, 'config.toml')]);
    chmodSync(daemon.directory, 0o755);
    await daemon.start();
    return daemon;
  }

  test('cannot speak on any socket, or look into the root', async (t) => {
    const daemon = await open(t);
    for (const name of ['c.sock', 'snapshotter.sock', 'cri.sock']) {
      const path = join(daemon.directory, name);
      assert.equal(statSync(path).mode & 0o777, 0o600, name);
      const connect = ['curl', '-s', '--unix-socket', path, 'http://nymph/v1/health'];
      // curl: 7, no connection.
      assert.equal((await asSomebody(...connect)).status, 7, name);
    }
    const allowed = await run('curl', ['-s', '--unix-socket', daemon.address, 'http://nymph/v1/health']);
    assert.equal(allowed.status, 0);
    assert.notEqual((await asSomebody('ls', daemon.root)).status, 0);
    assert.notEqual((await asSomebody('ls', join(daemon.directory, 'fs'))).status, 0);
  });

  for (const via of ['erofs', 'fuse'] as const)
    test(`does not become root by a program of an image: ${via}`, async (t) => {
      const daemon = await open(t);
      const place = daemon.place('image');
      await daemon.client.mount({ reference: `oci:${image.layout}:made`, directory: place, options: { via } });
      assert.equal(statSync(join(place, 'id')).mode & 0o7777, 0o4755, 'the image has it');
      const { out, err } = await asSomebody(join(place, 'id'), '-u');
      assert.equal(out.toString().trim(), String(SOMEBODY), err);
      const flags = (await run('findmnt', ['-no', 'VFS-OPTIONS', place])).out.toString().trim().split(',');
      for (const flag of ['ro', 'nosuid', 'nodev']) assert.ok(flags.includes(flag), `${flag}: ${flags}`);
    });
});
