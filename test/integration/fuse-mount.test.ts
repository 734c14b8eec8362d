/** The FUSE mount under all image mounts: who may look into it, and what a start makes of one that a dead daemon left. */
import assert from 'node:assert/strict';
import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotMount, run, testDaemon } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';

const NOBODY = ['--reuid', '65534', '--regid', '65534', '--clear-groups'];

describe('the FUSE mount', { skip: cannotMount() }, () => {
  test('a dead one is replaced, even if the kernel remembers its attributes', async (t) => {
    const daemon = await testDaemon(t);
    const fs = join(daemon.directory, 'fs');
    statSync(fs);
    await daemon.kill('supervisor', 'daemon');
    statSync(fs);
    await daemon.start();
  });

  test('nobody but root looks into it, whatever the directories above allow', async (t) => {
    const daemon = await testDaemon(t);
    await run('chmod', ['755', daemon.directory]);
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `oci:${APP_LAYOUT}:nydus`, daemon.place('m'));
    assert.equal(mounted.status, 0, mounted.err);
    const blobs = join(daemon.directory, 'fs', 'blobs');
    const [blob] = readdirSync(blobs);
    const root = await run('head', ['-c', '10', join(blobs, blob)]);
    assert.equal(root.status, 0, root.err);
    const other = await run('setpriv', [...NOBODY, 'head', '-c', '10', join(blobs, blob)]);
    assert.match(other.err, /Permission denied/);
    // Through the image everybody reads what its modes allow.
    const reads = await run('setpriv', [
      ...NOBODY,
      'sh',
      '-c',
      'cat "$0"/srv/pages/*.html >/dev/null',
      daemon.place('m'),
    ]);
    assert.equal(reads.status, 0, reads.err);
  });
});
