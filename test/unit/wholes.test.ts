/** Checks of whole files whose chunks have no digests. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { openCache } from '../../src/cache/open.ts';
import { setReady } from '../../src/cache/ready-map.ts';
import { blobOf } from '../../src/formats/files/blob.ts';
import type { Driver } from '../../src/fuse/driver.ts';
import { objectOf } from '../../src/image/files.ts';
import { createServedBlobs } from '../../src/mount/served.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, scriptedSource } from '../blob.ts';

test('two who verify a file at the same time both hear of it', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'nymph-wholes-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  const pool = createThreadPool(1);
  t.after(() => pool.close());
  const content = randomBytes((5 << 20) + 3);
  const hex = sha256Digest(content).slice('sha256:'.length);
  const cache = await openCache(root);
  const cached = await cache.open(
    blobOf(objectOf({ size: content.length, whole: { algorithm: 'sha256', hex }, place: 'a' })),
  );
  const driver = { register() {}, unregister: async () => {} } as unknown as Driver;
  const blobs = createServedBlobs(cache, driver, fetchContext(pool, {}));
  writeSync(cached.fd, content, 0, content.length, 0);
  setReady(cached.ready, 0, content.length);
  const served = await blobs.serve(cached, scriptedSource(content));
  const signal = AbortSignal.timeout(20_000);
  const found = await Promise.all([blobs.recheck(served, signal), blobs.recheck(served, signal)]);
  assert.deepEqual(found, ['right', 'right']);
  await blobs.release(served);
  await cache.close();
});
