/** `kill -9` of the daemon at any moment, under load: what a client was told is so. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ServiceError, status } from '@grpc/grpc-js';
import { cannotMount, testDaemon, until } from '../daemon.ts';
import { type SnapshotsClient, snapshotsClient } from '../snapshots.ts';
import { onDisk } from '../snapshotter-kit.ts';

const CLIENTS = 8;
const ROUNDS = 6;

test('kill -9 again and again: nothing is lost, nothing is left', { skip: cannotMount() }, async (t) => {
  const daemon = await testDaemon(t);
  const socket = join(daemon.directory, 'snapshotter.sock');
  const home = join(daemon.root, 'snapshots');
  /** By name: the kind that a client was told of, or `undefined` where the answer did not come. */
  const told = new Map<string, string | undefined>();
  let calls = 0;

  /** Layer upon layer, some containers, and away with some of it. */
  async function work(client: SnapshotsClient, worker: string): Promise<void> {
    for (let i = 0, parent = ''; ; i++) {
      const [key, name] = [`${worker}/${i}/active`, `${worker}/${i}/layer`];
      told.set(key, undefined);
      await client.call('Prepare', { key, parent });
      told.set(key, 'ACTIVE');
      if (i % 3 === 2) {
        told.set(key, undefined);
        await client.call('Remove', { key });
        told.delete(key);
      } else {
        told.set(key, undefined);
        told.set(name, undefined);
        await client.call('Commit', { key, name });
        told.delete(key);
        told.set(name, 'COMMITTED');
        parent = i % 10 === 9 ? '' : name;
      }
      calls++;
    }
  }

  for (let round = 0; round < ROUNDS; round++) {
    const { pid } = await daemon.client.health();
    const clients = Array.from({ length: CLIENTS }, () => snapshotsClient(socket));
    const before = calls;
    const working = clients.map((client, i) =>
      work(client, `r${round}w${i}`).catch((error: ServiceError) =>
        assert.equal(error.code, status.UNAVAILABLE, error.message),
      ),
    );
    await until(20_000, 'the clients do nothing', async () => calls > before + CLIENTS || undefined);
    await sleep(Math.random() * 150);
    await daemon.kill('daemon');
    await Promise.all(working);
    for (const client of clients) client.close();
    await daemon.another(pid);

    const client = snapshotsClient(socket);
    const infos = new Map((await client.list()).map((info) => [info.name, info]));
    for (const [name, kind] of told) if (kind !== undefined) assert.equal(infos.get(name)?.kind, kind, name);
    for (const [name, { parent }] of infos) {
      assert.ok(told.has(name), `${name} was asked for`);
      assert.ok(parent === '' || infos.has(parent), `${name} has its parent`);
      // From now on it is there.
      told.set(name, infos.get(name)!.kind);
    }
    for (const name of told.keys()) if (!infos.has(name)) told.delete(name);
    await client.call('Cleanup', {});
    assert.deepEqual([onDisk(home).ids.length, onDisk(home).trash], [infos.size, []]);
    client.close();
  }
  t.diagnostic(`${calls} rounds of calls, ${told.size} snapshots`);
  const client = snapshotsClient(socket);
  t.after(() => client.close());
  for (let left = await client.list(); left.length > 0; left = await client.list()) {
    const parents = new Set(left.map(({ parent }) => parent));
    await Promise.all(
      left.filter(({ name }) => !parents.has(name)).map(({ name }) => client.call('Remove', { key: name })),
    );
  }
  await client.call('Cleanup', {});
  assert.deepEqual(onDisk(home), { ids: [], trash: [] });
});
