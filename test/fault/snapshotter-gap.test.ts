/** What containerd sees of a daemon that dies. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, testDaemon } from '../daemon.ts';
import { snapshotsClient } from '../snapshots.ts';

test('the snapshotter’s socket goes with a daemon that is killed, and comes with the next', {
  skip: cannotMount(),
}, async (t) => {
  const daemon = await testDaemon(t);
  const socket = join(daemon.directory, 'snapshotter.sock');
  const { pid } = await daemon.client.health();
  let absent = false;
  const watching = setInterval(() => {
    absent ||= !existsSync(socket);
  }, 1);
  await daemon.kill('daemon');
  await daemon.another(pid);
  clearInterval(watching);
  assert.equal(absent, true, 'clients that find no socket wait for it');
  const client = snapshotsClient(socket);
  t.after(() => Promise.resolve(client.close()));
  assert.deepEqual(await client.list(), []);
});
