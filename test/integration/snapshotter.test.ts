/** The snapshotter's socket of a real daemon: what containerd's suite does not ask. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, linkSync, mkdirSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { type ServiceError, status } from '@grpc/grpc-js';
import { cannotMount, testDaemon, until } from '../daemon.ts';
import { type Mount, type SnapshotInfo, type SnapshotsClient, snapshotsClient } from '../snapshots.ts';
import { onDisk } from '../snapshotter-kit.ts';

async function opened(t: TestContext) {
  const daemon = await testDaemon(t);
  const socket = join(daemon.directory, 'snapshotter.sock');
  const client = snapshotsClient(socket);
  t.after(() => client.close());
  return { daemon, socket, client, home: join(daemon.root, 'snapshots') };
}

const prepare = (client: SnapshotsClient, key: string, parent = '', labels = {}) =>
  client.call<{ mounts: Mount[] }>('Prepare', { key, parent, labels });

/** A layer with some files. @returns the directory that holds them */
async function layer(client: SnapshotsClient, name: string, fill: (directory: string) => void): Promise<string> {
  const { mounts } = await prepare(client, `making ${name}`);
  fill(mounts[0].source);
  await client.call('Commit', { key: `making ${name}`, name });
  return mounts[0].source;
}

const refused = (code: number, text: RegExp) => (error: ServiceError) => {
  assert.equal(error.code, code, error.details);
  assert.match(error.details, text);
  return true;
};

describe('the snapshotter’s socket', { skip: cannotMount() }, () => {
  test('only root may use it, and one that was left behind is replaced', async (t) => {
    const daemon = await testDaemon(t, { start: false });
    const socket = join(daemon.directory, 'snapshotter.sock');
    const left = createServer();
    await new Promise<void>((resolve) => left.listen(socket, resolve));
    // As after a kill: the file stays, and nobody listens.
    const copy = `${socket}.left`;
    linkSync(socket, copy);
    await new Promise((resolve) => left.close(resolve));
    linkSync(copy, socket);
    await daemon.start();
    assert.equal(statSync(socket).mode & 0o777, 0o600);
    assert.equal(statSync(join(daemon.root, 'snapshots')).mode & 0o777, 0o700);
    const client = snapshotsClient(socket);
    t.after(() => client.close());
    assert.deepEqual(await client.list(), []);
    await daemon.stop();
    await assert.rejects(client.list(), { code: status.UNAVAILABLE });
  });

  test('errors are containerd’s, with its words at the end', async (t) => {
    const { client, daemon } = await opened(t);
    await prepare(client, 'a');
    await assert.rejects(prepare(client, 'a'), refused(status.ALREADY_EXISTS, /: already exists$/));
    await assert.rejects(prepare(client, 'b', 'none'), refused(status.NOT_FOUND, /none.*: not found$/));
    await assert.rejects(prepare(client, 'b', 'a'), refused(status.INVALID_ARGUMENT, /: invalid argument$/));
    await assert.rejects(
      prepare(client, 'b', '', { k: 'v'.repeat(4096) }),
      refused(status.INVALID_ARGUMENT, /longer than 4096/),
    );
    await assert.rejects(
      client.call('Update', { info: { name: 'a' }, updateMask: { paths: ['parent'] } }),
      refused(status.INVALID_ARGUMENT, /parent/),
    );
    await assert.rejects(client.list('name='), refused(status.INVALID_ARGUMENT, /character 5: invalid argument$/));
    await client.call('Commit', { key: 'a', name: 'A' });
    await assert.rejects(client.call('Mounts', { key: 'A' }), refused(status.FAILED_PRECONDITION, /committed/));
    await prepare(client, 'b', 'A');
    await assert.rejects(client.call('Remove', { key: 'A' }), refused(status.FAILED_PRECONDITION, /remove/));
    await assert.rejects(client.call('Stat', { key: 'x' }), refused(status.NOT_FOUND, /: not found$/));
    assert.deepEqual(daemon.logged('"level":"error"'), []);
  });

  test('an update as containerd sends it: another kind, Go’s zero time, one label away', async (t) => {
    const { client } = await opened(t);
    await prepare(client, 'a', '', { one: '1', two: '2' });
    const zero = { seconds: -62135596800, nanos: 0 };
    const info = {
      name: 'a',
      kind: 'COMMITTED',
      parent: 'z',
      createdAt: zero,
      updatedAt: zero,
      labels: { two: '', three: '3' },
    };
    const before = await client.call<{ info: SnapshotInfo }>('Stat', { key: 'a' });
    const { info: now } = await client.call<{ info: SnapshotInfo }>('Update', {
      info,
      updateMask: { paths: ['labels.two', 'labels.three'] },
    });
    assert.deepEqual(now.labels, { one: '1', three: '3' });
    assert.deepEqual([now.kind, now.parent, now.createdAt], ['ACTIVE', '', before.info.createdAt]);
  });

  test('50 clients at once, with the same keys among them', async (t) => {
    const { client, socket, home } = await opened(t);
    await layer(client, 'base', (directory) => writeFileSync(join(directory, 'file'), 'x'));
    const clients = Array.from({ length: 50 }, () => snapshotsClient(socket));
    t.after(() => {
      for (const one of clients) one.close();
    });
    const outcomes = await Promise.all(
      clients.map(async (one, i) => {
        const key = `default/${i % 25}/k`;
        const made = await prepare(one, key, 'base').catch((error: ServiceError) => error.code);
        if (typeof made === 'number') return made;
        assert.equal((await one.call<{ info: SnapshotInfo }>('Stat', { key })).info.kind, 'ACTIVE');
        assert.deepEqual((await one.call<{ mounts: Mount[] }>('Mounts', { key })).mounts, made.mounts);
        await one.call('Commit', { key, name: `${key} ${i}` });
        return made.mounts[0].options.find((option) => option.startsWith('upperdir='));
      }),
    );
    const winners = outcomes.filter((outcome) => typeof outcome === 'string');
    assert.ok(new Set(winners).size === winners.length && winners.length >= 25);
    // The same key is free again once the first is committed; its name is not.
    for (const outcome of outcomes) if (typeof outcome === 'number') assert.equal(outcome, status.ALREADY_EXISTS);
    await Promise.all((await client.list('parent==base')).map(({ name }) => client.call('Remove', { key: name })));
    await client.call('Remove', { key: 'base' });
    await client.call('Cleanup', {});
    assert.deepEqual(onDisk(home), { ids: [], trash: [] });
  });

  test('a list with more labels than one message can carry', async (t) => {
    const { client } = await opened(t);
    const labels = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`label-${i}`, 'v'.repeat(4000)]));
    await Promise.all(Array.from({ length: 120 }, (_, i) => prepare(client, `k${i}`, '', { ...labels, n: `${i}` })));
    const infos = await client.list();
    assert.equal(infos.length, 120);
    for (const info of infos) assert.equal(Object.keys(info.labels).length, 61);
    assert.equal((await client.list('labels.n==7', 'labels.n==8')).length, 2);
  });

  test('usage: of what is being written now, of a layer for ever, links once, of a view none', async (t) => {
    const { client } = await opened(t);
    const usage = async (key: string) => {
      const { size, inodes } = await client.call<{ size: string; inodes: string }>('Usage', { key });
      return { size: Number(size), inodes: Number(inodes) };
    };
    const du = (directory: string) => {
      const ask = (option: string) =>
        Number.parseInt(spawnSync('du', ['-sx', option, directory]).stdout.toString(), 10);
      return { size: ask('-B1'), inodes: ask('--inodes') };
    };
    const { mounts } = await prepare(client, 'a');
    const directory = mounts[0].source;
    assert.deepEqual(await usage('a'), du(directory));
    for (let i = 0; i < 30; i++) mkdirSync(join(directory, `d${i}`));
    writeFileSync(join(directory, 'd1', 'big'), Buffer.alloc(3 << 20, 1));
    linkSync(join(directory, 'd1', 'big'), join(directory, 'd2', 'big'));
    spawnSync('sync', ['-f', directory]);
    const grown = await usage('a');
    assert.deepEqual(grown, du(directory));
    assert.equal(grown.inodes, 32);
    await client.call('Commit', { key: 'a', name: 'A' });
    assert.deepEqual(await usage('A'), grown);
    writeFileSync(join(directory, 'nobody writes into a layer'), 'x'.repeat(10_000));
    assert.deepEqual(await usage('A'), grown, 'it was measured once');
    await client.call('View', { key: 'v', parent: 'A' });
    assert.deepEqual(await usage('v'), { size: 0, inodes: 0 });
    await assert.rejects(usage('none'), { code: status.NOT_FOUND });
  });

  test('remove answers at once; cleanup when all is gone, what is mounted excepted', async (t) => {
    const { client, home, daemon } = await opened(t);
    const directory = await layer(client, 'A', (at) => {
      mkdirSync(join(at, 'busy'));
      for (let i = 0; i < 300; i++) writeFileSync(join(at, `f${i}`), 'x');
    });
    const outside = daemon.place('outside');
    writeFileSync(join(outside, 'kept'), 'kept');
    assert.equal(spawnSync('mount', ['--bind', outside, join(directory, 'busy')]).status, 0);
    await client.call('Remove', { key: 'A' });
    await assert.rejects(client.call('Stat', { key: 'A' }), { code: status.NOT_FOUND });
    await client.call('Cleanup', {});
    const [stuck, ...others] = onDisk(home).trash;
    assert.deepEqual(others, []);
    assert.deepEqual(readdirSync(join(home, 'trash', stuck)), ['busy'], 'only the mount point is left');
    assert.ok(existsSync(join(outside, 'kept')));
    await until(10_000, 'it is not logged', async () => daemon.logged('still in use')[0]);
    assert.equal(spawnSync('umount', [join(home, 'trash', stuck, 'busy')]).status, 0);
    await client.call('Cleanup', {});
    assert.deepEqual(onDisk(home), { ids: [], trash: [] });
    assert.ok(existsSync(join(outside, 'kept')));
  });

  test('what is garbage at the start goes, and links in it are not followed', async (t) => {
    const { client, home, daemon } = await opened(t);
    await layer(client, 'A', () => {});
    await daemon.stop();
    const outside = daemon.place('outside');
    writeFileSync(join(outside, 'kept'), 'kept');
    mkdirSync(join(home, '77', 'fs'), { recursive: true });
    spawnSync('ln', ['-s', outside, join(home, '77', 'fs', 'link')]);
    spawnSync('ln', ['-s', outside, join(home, '78')]);
    spawnSync('ln', ['-s', outside, join(home, 'trash', 'link')]);
    mkdirSync(join(home, 'trash', 'left', 'deep'), { recursive: true });
    await daemon.start();
    await until(10_000, 'garbage is left', async () => {
      const { ids, trash } = onDisk(home);
      return (ids.length === 1 && trash.length === 0) || undefined;
    });
    assert.ok(existsSync(join(outside, 'kept')));
    const again = snapshotsClient(join(daemon.directory, 'snapshotter.sock'));
    t.after(() => again.close());
    assert.equal((await again.list()).length, 1);
  });
});
