import assert from 'node:assert/strict';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { NymphError } from '../../src/errors.ts';
import { type Disk, localDisk } from '../../src/snapshotter/disk.ts';
import type { Claim, LayerRequest, LazyLayers, Lowers } from '../../src/snapshotter/lazy.ts';
import { shared } from '../../src/snapshotter/shared.ts';
import {
  type Info,
  LABEL_GID_MAP,
  LABEL_IMAGE,
  LABEL_LAZY,
  LABEL_PIECE,
  LABEL_TARGET,
  LABEL_UID_MAP,
} from '../../src/snapshotter/snapshotter.ts';
import { openStore } from '../../src/snapshotter/store.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { until } from '../daemon.ts';
import { type KitOptions, never, onDisk, openKit } from '../snapshotter-kit.ts';

async function kit(t: TestContext, options: Omit<KitOptions, 'pool'> = {}) {
  const root = mkdtempSync(join(tmpdir(), 'nymph-'));
  const pool = createThreadPool();
  const opened = await openKit(root, { pool, ...options });
  let current = opened;
  t.after(async () => {
    await current.snapshotter.close();
    await pool.close();
    rmSync(root, { recursive: true, force: true });
  });
  return {
    ...opened,
    /** As after a restart. */
    async reopen() {
      await current.snapshotter.close();
      current = await openKit(root, { pool, ...options });
      return current;
    },
  };
}

async function all(infos: AsyncIterable<Info[]>): Promise<Info[]> {
  const found: Info[] = [];
  for await (const some of infos) found.push(...some);
  return found;
}

test('every rule of the records', async (t) => {
  const { snapshotter: s } = await kit(t);
  await s.prepare('a', '', {}, never);
  await assert.rejects(s.prepare('a', '', {}, never), { code: 'exists' });
  await assert.rejects(s.view('a', '', {}, never), { code: 'exists' });
  await assert.rejects(s.prepare('b', 'none', {}, never), { code: 'not-found' });
  await assert.rejects(s.prepare('b', 'a', {}, never), { code: 'usage' });
  await assert.rejects(s.commit('A', 'none', {}, ''), { code: 'not-found' });
  await s.commit('A', 'a', { x: '1' }, '');
  assert.throws(() => s.stat('a'), { code: 'not-found' });
  await assert.rejects(s.commit('B', 'A', {}, ''), { code: 'precondition' });
  await assert.rejects(s.mounts('A', never), { code: 'precondition' });
  await assert.rejects(s.mounts('none', never), { code: 'not-found' });
  await s.view('v', 'A', {}, never);
  await assert.rejects(s.commit('V', 'v', {}, ''), { code: 'precondition' });
  await s.prepare('a', 'A', {}, never);
  await assert.rejects(s.commit('A', 'a', {}, ''), { code: 'exists' });
  await assert.rejects(s.remove('A'), { code: 'precondition', message: /remove/ });
  await assert.rejects(s.remove('none'), { code: 'not-found' });
  await assert.rejects(s.update('none', {}, []), { code: 'not-found' });
  await assert.rejects(s.usage('none'), { code: 'not-found' });
  for (const key of ['a', 'v', 'A']) await s.remove(key);
  assert.deepEqual(await all(s.list([])), []);
});

test('a parent that comes with the commit', async (t) => {
  const { snapshotter: s } = await kit(t);
  for (const name of ['A', 'B']) {
    await s.prepare('x', '', {}, never);
    await s.commit(name, 'x', {}, '');
  }
  await s.prepare('late', '', {}, never);
  await s.prepare('early', 'A', {}, never);
  await assert.rejects(s.commit('L', 'late', {}, 'none'), { code: 'not-found' });
  await assert.rejects(s.commit('L', 'late', {}, 'early'), { code: 'precondition' });
  await s.commit('L', 'late', {}, 'A');
  assert.equal(s.stat('L').parent, 'A');
  await assert.rejects(s.commit('E', 'early', {}, 'B'), { code: 'usage' });
  await s.commit('E', 'early', {}, 'A');
  const [{ options }] = await s.view('v', 'L', {}, never);
  assert.match(options.at(-1)!, /lowerdir=\S+\/snapshots\/3\/fs:\S+\/snapshots\/1\/fs$/);
});

test('times are those of the clock, to the nanosecond; both are one at birth and at the commit', async (t) => {
  const { snapshotter: s, reopen } = await kit(t);
  const before = BigInt(Date.now()) * 1_000_000n;
  await s.prepare('a', '', { x: '1' }, never);
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  const born = s.stat('a');
  assert.ok(before <= born.created && born.created <= after && born.created === born.updated);
  assert.notEqual(born.created % 1_000_000n, 0n);
  const updated = await s.update('a', { y: '2' }, []);
  assert.ok(updated.created === born.created && updated.updated > born.updated);
  await s.commit('A', 'a', {}, '');
  const committed = s.stat('A');
  assert.ok(committed.created === committed.updated && committed.created > updated.updated);
  assert.deepEqual(committed.labels, {});
  assert.deepEqual((await reopen()).snapshotter.stat('A'), committed);
});

test('a list of hundreds comes in pieces, and other calls go on meanwhile', async (t) => {
  const { snapshotter: s } = await kit(t);
  await s.prepare('x', '', {}, never);
  await s.commit('base', 'x', {}, '');
  await Promise.all(Array.from({ length: 250 }, (_, i) => s.prepare(`k${i}`, 'base', { n: `${i % 2}` }, never)));
  const sizes: number[] = [];
  for await (const infos of s.list([])) {
    sizes.push(infos.length);
    for (const info of infos) assert.deepEqual(s.stat(info.name), info);
    if (sizes.length === 1) await s.remove('k249');
  }
  assert.deepEqual(sizes, [100, 100, 50]);
  assert.equal((await all(s.list(['labels.n==1']))).length, 124);
  await assert.rejects(all(s.list(['name='])), { code: 'usage' });
});

test('50 prepares at once, duplicates included: one of each wins', async (t) => {
  const { snapshotter: s, home } = await kit(t);
  const results = await Promise.allSettled(
    Array.from({ length: 50 }, (_, i) => s.prepare(`k${i % 20}`, '', {}, never)),
  );
  assert.equal(results.filter(({ status }) => status === 'fulfilled').length, 20);
  for (const result of results)
    if (result.status === 'rejected') assert.equal((result.reason as NymphError).code, 'exists');
  await s.cleanup();
  assert.equal(onDisk(home).ids.length, 20);
  assert.deepEqual(onDisk(home).trash, []);
  const infos = await all(s.list([]));
  const sources = await Promise.all(infos.map(async ({ name }) => (await s.mounts(name, never))[0].source));
  assert.equal(new Set(sources).size, 20);
});

test('ids are never used again, also after the highest is gone', async (t) => {
  const { snapshotter: s, reopen } = await kit(t);
  const source = async (at: typeof s) => (await at.prepare('a', '', {}, never))[0].source;
  const first = await source(s);
  await s.remove('a');
  const second = await source(s);
  await s.remove('a');
  const third = await source((await reopen()).snapshotter);
  assert.equal(new Set([first, second, third]).size, 3);
});

test('directories have containerd’s modes whatever the mask', async (t) => {
  const mask = process.umask(0o077);
  t.after(() => process.umask(mask));
  const { snapshotter: s, home } = await kit(t);
  await s.prepare('a', '', {}, never);
  const mode = (...path: string[]) => (statSync(join(home, ...path)).mode & 0o7777).toString(8);
  assert.deepEqual([mode(), mode('1'), mode('1', 'fs'), mode('1', 'work')], ['700', '700', '755', '711']);
});

test('owners that a client has changed for a user namespace are not mapped once more', async (t) => {
  const { snapshotter: s } = await kit(t);
  const maps = { [LABEL_UID_MAP]: `0:${process.getuid!()}:9`, [LABEL_GID_MAP]: `0:${process.getgid!()}:9` };
  await s.prepare('x', '', {}, never);
  await s.commit('image', 'x', {}, '');
  const options = async (key: string, parent: string) => (await s.prepare(key, parent, maps, never))[0].options;
  assert.ok((await options('mapped', 'image')).some((option) => option.startsWith('uidmap=')));
  await s.prepare('default/4/sha256:1-remap', 'image', {}, never);
  await s.commit('default/5/sha256:1', 'default/4/sha256:1-remap', {}, '');
  await s.update('default/5/sha256:1', {}, []);
  assert.ok((await options('changed', 'default/5/sha256:1')).every((option) => !option.startsWith('uidmap=')));
  assert.ok((await s.mounts('changed', never))[0].options.every((option) => !option.startsWith('uidmap=')));
});

test('a prepare that is given up leaves nothing', async (t) => {
  const gone = new AbortController();
  const { snapshotter: s, home } = await kit(t, { lazy: layers({ lowers: async () => void gone.abort() }) });
  await s.prepare('x', '', {}, never);
  await s.commit('base', 'x', {}, '');
  await assert.rejects(s.prepare('k', 'base', {}, gone.signal), { code: 'cancelled' });
  await s.cleanup();
  assert.deepEqual(onDisk(home), { ids: [1], trash: [] });
});

/** Lazy layers that do nothing but what the test says, and tell what was asked. */
function layers(more: Partial<LazyLayers>): LazyLayers & { calls: string[] } {
  const calls: string[] = [];
  return {
    calls,
    claim: async () => ({ here: false, reason: 'an ordinary layer' }),
    lowers: async () => undefined,
    committed: () => {},
    began: (name) => void calls.push(`began ${name}`),
    release: async (id) => void calls.push(`release ${id}`),
    restore: async (all) => void calls.push(`restore ${all.map(({ id, lazy }) => `${id}${lazy ? ' lazy' : ''}`)}`),
    ...more,
  };
}

const target = (chain: string) => ({ [LABEL_TARGET]: chain });

test('a layer that is served lazily: there for containerd to find, and never lost by an update', async (t) => {
  const asked: LayerRequest[] = [];
  const lazy = layers({
    claim: async (layer): Promise<Claim> => {
      asked.push(layer);
      return { here: true, labels: { image: 'i' } };
    },
  });
  const { snapshotter: s, lines, reopen } = await kit(t, { lazy });
  await assert.rejects(s.prepare('nymph/extract-1 c1', '', { ...target('c1'), hint: 'h' }, never), { code: 'exists' });
  const [one] = await all(s.list([`labels."${LABEL_TARGET}"==c1,parent==""`]));
  assert.equal(one.kind, 'committed');
  assert.deepEqual(one.labels, { ...target('c1'), hint: 'h', image: 'i', [LABEL_LAZY]: 'true' });
  await assert.rejects(s.prepare('nymph/extract-2 c2', one.name, target('c2'), never), { code: 'exists' });
  const [two] = await all(s.list([`labels."${LABEL_TARGET}"==c2,parent=="${one.name}"`]));
  assert.deepEqual(
    asked[1].ancestors.map(({ name, lazy: isLazy }) => [name, isLazy]),
    [[one.name, true]],
  );
  // Another namespace asks for the same.
  await assert.rejects(s.prepare('nymph/other/extract-3 c1', '', target('c1'), never), { code: 'exists' });
  assert.equal((await all(s.list([]))).length, 2);
  assert.equal(asked.length, 2);
  // The same layer on another parent is another snapshot.
  await assert.rejects(s.prepare('nymph/extract-4 c2', '', target('c2'), never), { code: 'exists' });
  assert.equal((await all(s.list([]))).length, 3);
  assert.deepEqual((await s.update(two.name, {}, [])).labels, { ...target('c2'), [LABEL_LAZY]: 'true' });
  assert.deepEqual(await s.usage(two.name), { size: 0, inodes: 0 });
  assert.deepEqual(
    lines.map(({ fields }) => fields?.['remote-snapshot-prepared']),
    ['true', 'true', 'true', 'true'],
  );
  await reopen();
  assert.deepEqual(lazy.calls, ['restore ', 'restore 1 lazy,2 lazy,3 lazy']);
});

test('two prepares of one lazy layer at once: both hear of it, and there is one', async (t) => {
  let asked = 0;
  const lazy = layers({
    claim: async () => {
      asked++;
      await new Promise((resolve) => setTimeout(resolve, 20));
      return { here: true };
    },
  });
  const { snapshotter: s, home } = await kit(t, { lazy });
  const results = await Promise.allSettled(
    Array.from({ length: 20 }, (_, i) => s.prepare(`nymph/extract-${i} c`, '', target('c'), never)),
  );
  for (const result of results) assert.equal((result as PromiseRejectedResult).reason.code, 'exists');
  assert.equal((await all(s.list([]))).length, 1);
  assert.ok(asked > 1);
  await s.cleanup();
  assert.equal(onDisk(home).ids.length, 1);
});

test('who asks for a lazy layer while another call fails to keep it does not hear that it is there', async (t) => {
  let syncs = 0;
  const lazy = layers({ claim: async () => ({ here: true }) });
  const aroundSync = async (sync: () => Promise<void>) => {
    const fails = ++syncs === 2;
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (fails) throw new NymphError('cache', 'the disk is bad');
    await sync();
  };
  const { snapshotter: s } = await kit(t, { lazy, aroundSync });
  const first = s.prepare('nymph/extract-1 c', '', target('c'), never);
  while (syncs < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  const second = s.prepare('nymph/extract-2 c', '', target('c'), never);
  for (const result of await Promise.allSettled([first, second]))
    assert.equal((result as PromiseRejectedResult).reason.code, 'cache');
  assert.equal((await all(s.list([]))).length, 0);
});

test('labels of ours are ours: nobody sets them, and no update takes them away', async (t) => {
  const lazy = layers({ claim: async () => ({ here: true, labels: { [LABEL_IMAGE]: 'i', [LABEL_PIECE]: 'p' } }) });
  const { snapshotter: s } = await kit(t, { lazy });
  await assert.rejects(s.prepare('nymph/extract c', '', target('c'), never), { code: 'exists' });
  const [{ name, labels }] = await all(s.list([]));
  const forged = { [LABEL_IMAGE]: 'x', [LABEL_PIECE]: 'x', [LABEL_LAZY]: 'x' };
  assert.deepEqual((await s.update(name, { a: 'b', ...forged }, [])).labels, { ...labels, a: 'b' });
  assert.deepEqual(
    (
      await s.update(
        name,
        {},
        Object.keys(labels).map((key) => `labels.${key}`),
      )
    ).labels,
    {
      ...labels,
      a: 'b',
    },
  );
  // As annotations of an image would come: one that names another image.
  await s.prepare('own', '', forged, never);
  assert.deepEqual(s.stat('own').labels, {});
  await s.commit('nymph/default/2/own', 'own', forged, '');
  assert.deepEqual(s.stat('nymph/default/2/own').labels, {});
});

test('what cannot be cleared away at the start stays, and the daemon goes on', async (t) => {
  let broken = false;
  const rename: Disk['rename'] = async (from, to) => {
    if (broken) throw Object.assign(new Error('ENOSPC: no space left on device'), { code: 'ENOSPC' });
    await localDisk.rename(from, to);
  };
  const { snapshotter: s, home, reopen } = await kit(t, { disk: { ...localDisk, rename } });
  for (const key of ['a', 'b']) await s.prepare(key, '', {}, never);
  await s.remove('a');
  await s.cleanup();
  mkdirSync(join(home, '1'));
  broken = true;
  const { snapshotter: again, lines } = await reopen();
  await until(10_000, 'nothing is said', async () => lines.some(({ message }) => /cleared/.test(message)) || undefined);
  assert.equal(again.stat('b').kind, 'active');
  broken = false;
  await again.cleanup();
  assert.deepEqual(onDisk(home), { ids: [2], trash: [] });
});

test('directories are made before they are asked for; where they cannot be, calls make their own', async (t) => {
  let mkdir: Disk['mkdir'] = localDisk.mkdir;
  const {
    snapshotter: s,
    home,
    reopen,
  } = await kit(t, {
    disk: { ...localDisk, mkdir: (path, mode) => mkdir(path, mode) },
  });
  const made = () => readdirSync(home).filter((name) => /^\d/.test(name)).length;
  const whole = () =>
    readdirSync(home).filter((name) => existsSync(join(home, name, 'fs')) && existsSync(join(home, name, 'work')));
  await s.prepare('a', '', {}, never);
  await until(10_000, 'nothing is made ahead', async () => whole().length > 8 || undefined);
  const stuck = Promise.withResolvers<void>();
  mkdir = async () => {
    await stuck.promise;
    throw new Error('given up');
  };
  const [{ source }] = await s.prepare('b', '', {}, never);
  assert.deepEqual(readdirSync(join(source, '..')).sort(), ['fs', 'work']);

  stuck.resolve();
  const { snapshotter: again } = await reopen();
  await again.cleanup();
  assert.equal(made(), 2, 'a new daemon begins with none');
  let failures = 0;
  mkdir = async (path, mode) => {
    // The first directory of the call is its own.
    if (path.endsWith('/4') && failures++ === 0) throw Object.assign(new Error('ENOSPC: injected'), { code: 'ENOSPC' });
    await localDisk.mkdir(path, mode);
  };
  await again.prepare('c', '', {}, never);
  await until(10_000, 'nothing is made ahead', async () => (failures > 0 && made() > 4) || undefined);
  mkdir = localDisk.mkdir;
  for (let i = 0; i < 12; i++) {
    const [mount] = await again.prepare(`more ${i}`, '', {}, never);
    assert.ok(existsSync(mount.source));
  }
});

test('directories go after the removal is durable, also if garbage is collected meanwhile', async (t) => {
  let during = async () => {};
  const { snapshotter: s, home } = await kit(t, {
    aroundSync: async (sync) => {
      await during();
      await sync();
    },
  });
  await s.prepare('a', '', {}, never);
  let present: number[] = [];
  during = async () => {
    during = async () => {};
    await s.cleanup();
    present = onDisk(home).ids;
  };
  await s.remove('a');
  assert.deepEqual(present, [1]);
  await s.cleanup();
  assert.deepEqual(onDisk(home), { ids: [], trash: [] });
});

test('a layer that cannot be served lazily is unpacked, and says why to its end', async (t) => {
  const lazy = layers({
    claim: async () => {
      throw new NymphError('denied', 'the registry said no');
    },
  });
  const { snapshotter: s, lines } = await kit(t, { lazy });
  const [mount] = await s.prepare('nymph/extract-1 c1', '', { ...target('c1'), [LABEL_LAZY]: 'true' }, never);
  assert.equal(mount.type, 'bind');
  assert.equal(s.stat('nymph/extract-1 c1').labels[LABEL_LAZY], 'false: the registry said no');
  await s.commit('default/2/c1', 'nymph/extract-1 c1', target('c1'), '');
  assert.equal(s.stat('default/2/c1').labels[LABEL_LAZY], 'false: the registry said no');
  assert.deepEqual(lines[0].fields, {
    'remote-snapshot-prepared': 'false',
    key: 'nymph/extract-1 c1',
    target: 'c1',
    reason: 'the registry said no',
  });
  const gone = AbortSignal.abort();
  await assert.rejects(s.prepare('nymph/extract-2 c2', '', target('c2'), gone), { code: 'denied' });
  // Without that label there is no such answer, whatever else it has.
  await s.prepare('plain', 'default/2/c1', { 'containerd.io/snapshot/x': 'y' }, never);
});

test('a layer of which nobody can say in time whether it is lazy is unpacked', async (t) => {
  const lazy = layers({
    claim: (_, signal) =>
      new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(new Error('given up')))),
  });
  const { snapshotter: s } = await kit(t, { lazy, patience: 50 });
  const [mount] = await s.prepare('nymph/extract-1 c1', '', target('c1'), never);
  assert.equal(mount.type, 'bind');
  assert.match(
    s.stat('nymph/extract-1 c1').labels[LABEL_LAZY],
    /^false: the registry was too slow: no answer within 50 ms$/,
  );
});

test('a container on a lazy image: its mounts, its release, and an image that cannot be mounted', async (t) => {
  let broken = false;
  const lowers: Lowers = { directories: ['/r/image'], owner: { uid: 0, gid: 0 } };
  const lazy = layers({
    claim: async () => ({ here: true }),
    lowers: async (id, ancestors) => {
      lazy.calls.push(`lowers ${id} of ${ancestors.map((layer) => layer.id)}`);
      if (broken) throw new NymphError('source', 'the registry is away');
      return lowers;
    },
  });
  const { snapshotter: s, home } = await kit(t, { lazy });
  await assert.rejects(s.prepare('nymph/extract c', '', target('c'), never), { code: 'exists' });
  const [{ name }] = await all(s.list([]));
  const [mount] = await s.prepare('container', name, {}, never);
  assert.equal(mount.options.at(-1), 'lowerdir=/r/image');
  assert.deepEqual(await s.view('view', name, {}, never), [
    { type: 'bind', source: '/r/image', options: ['ro', 'rbind'] },
  ]);
  assert.deepEqual(await s.mounts('container', never), [mount]);
  broken = true;
  await assert.rejects(s.mounts('container', never), { code: 'source' });
  await assert.rejects(s.prepare('other', name, {}, never), { code: 'source' });
  await s.remove('container');
  await s.cleanup();
  assert.deepEqual(lazy.calls.slice(1), [
    'lowers 2 of 1',
    'began container',
    'lowers 3 of 1',
    'lowers 2 of 1',
    'lowers 2 of 1',
    'lowers 4 of 1',
    'release 4',
    'release 2',
  ]);
  assert.deepEqual(onDisk(home).ids, [1, 3]);
});

test('a snapshot that is removed while its mounts are asked for holds nothing', async (t) => {
  let wait = async () => {};
  const lazy = layers({
    lowers: async (id) => {
      await wait();
      lazy.calls.push(`hold ${id}`);
      return undefined;
    },
  });
  const { snapshotter: s, home } = await kit(t, { lazy });
  await s.prepare('a', '', {}, never);
  await s.commit('base', 'a', {}, '');
  await s.prepare('k', 'base', {}, never);
  wait = async () => {
    await s.remove('k');
    await s.cleanup();
  };
  await assert.rejects(s.mounts('k', never), { code: 'not-found' });
  await s.cleanup();
  assert.deepEqual(lazy.calls.slice(1), ['hold 2', 'began k', 'release 2', 'hold 2', 'release 2']);
  assert.deepEqual(onDisk(home), { ids: [1], trash: [] });
});

test('what cannot be let go is tried again at the next cleanup, and keeps its directories meanwhile', async (t) => {
  let busy = true;
  const lazy = layers({
    release: async () => {
      if (busy) throw new NymphError('busy', 'the mount is in use');
    },
  });
  const { snapshotter: s, home, lines } = await kit(t, { lazy });
  await s.prepare('a', '', {}, never);
  await s.remove('a');
  await s.cleanup();
  assert.deepEqual(onDisk(home).ids, [1]);
  assert.match(JSON.stringify(lines), /the mount is in use/);
  busy = false;
  await s.cleanup();
  assert.deepEqual(onDisk(home), { ids: [], trash: [] });
});

test('calls share runs, and none gets one that began before it came', async () => {
  let runs = 0;
  const release: (() => void)[] = [];
  const sync = shared(() => {
    runs++;
    return new Promise<void>((resolve) => release.push(resolve));
  });
  const first = sync();
  const others = [sync(), sync(), sync()];
  assert.equal(runs, 1);
  release[0]();
  await first;
  await new Promise(setImmediate);
  assert.equal(runs, 2);
  const last = sync();
  release[1]();
  await Promise.all(others);
  await new Promise(setImmediate);
  assert.equal(runs, 3);
  release[2]();
  await last;
  // One that fails fails its callers and nobody else.
  let fail = true;
  const broken = shared(async () => {
    if (fail) throw new Error('EIO');
  });
  const failed = broken();
  const next = broken();
  fail = false;
  await assert.rejects(failed, /EIO/);
  await next;
});

test('records are written in place in their log, and are read out of it after a crash', async (t) => {
  const { snapshotter: s, home } = await kit(t);
  const log = join(home, 'metadata.db-wal');
  const { size } = statSync(log);
  for (let i = 0; i < 20; i++) {
    await s.prepare(`p/1/${i}`, '', {}, never);
    await s.commit(`p/1/layer ${i}`, `p/1/${i}`, {}, '');
  }
  assert.equal(statSync(log).size, size);
  const crashed = mkdtempSync(join(tmpdir(), 'nymph-'));
  t.after(() => rmSync(crashed, { recursive: true, force: true }));
  for (const name of ['metadata.db', 'metadata.db-wal']) copyFileSync(join(home, name), join(crashed, name));
  const store = openStore(join(crashed, 'metadata.db'));
  t.after(() => store.close());
  assert.equal(store.ids().size, 20);
  assert.equal(store.get('p/1/layer 19')?.kind, 'committed');
});
