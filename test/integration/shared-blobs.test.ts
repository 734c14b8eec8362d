/** Images from different places that are made of the same blobs. */
import assert from 'node:assert/strict';
import { cpSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { cannotMount, type TestDaemon, testDaemon } from '../daemon.ts';
import { APP_LAYOUT, APP_MANIFEST } from '../fixtures.ts';
import { checkTree } from '../manifest.ts';

const KNOWN = ['/srv', '/srv/pages'].map((path) => ({ path, field: 'mtime' }));

/** Mounts two copies of an image, takes one of them away, and reads both mounts. */
async function loseOne(daemon: TestDaemon, lost: 'first' | 'second'): Promise<void> {
  const places: string[] = [];
  for (const name of ['first', 'second']) {
    const layout = join(daemon.directory, `oci-${name}`);
    cpSync(APP_LAYOUT, layout, { recursive: true });
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `oci:${layout}:nydus`, daemon.place(name));
    assert.equal(mounted.status, 0, mounted.err);
    places.push(daemon.place(name));
  }
  rmSync(join(daemon.directory, `oci-${lost}`), { recursive: true });
  for (const place of places)
    assert.deepEqual(await checkTree(place, APP_MANIFEST, { how: 'order', exceptions: KNOWN }), [], place);
}

describe('images that share blobs', { skip: cannotMount() }, () => {
  for (const lost of ['first', 'second'] as const)
    test(`the place of the ${lost} image goes away: both are read on`, async (t) => {
      await loseOne(await testDaemon(t), lost);
    });
});
