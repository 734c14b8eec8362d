/**
 * Crashes of the snapshotter at every step of every call: a kill, an error, a power cut. Afterwards what was
 * acknowledged is there, what was not is there whole or not at all, and no directory is without a record.
 */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { Disk } from '../../src/snapshotter/disk.ts';
import { localDisk } from '../../src/snapshotter/disk.ts';
import type { LazyLayers } from '../../src/snapshotter/lazy.ts';
import { LABEL_TARGET, type Snapshotter } from '../../src/snapshotter/snapshotter.ts';
import type { Store } from '../../src/snapshotter/store.ts';
import { createThreadPool, type ThreadPool } from '../../src/threads/pool.ts';
import { type Kit, never, onDisk, openKit } from '../snapshotter-kit.ts';

let pool: ThreadPool;
before(() => {
  pool = createThreadPool();
});
after(() => pool.close());

/** Names with all that is kept of them. */
type State = Record<string, string>;

/** Everything that a client can ask for, one after another. */
const CALLS: Record<string, (s: Snapshotter) => Promise<unknown>> = {
  'prepare on nothing': (s) => s.prepare('nymph/a', '', { x: '1' }, never),
  commit: (s) => s.commit('nymph/A', 'nymph/a', { y: '2' }, ''),
  'prepare on a layer': (s) => s.prepare('nymph/b', 'nymph/A', {}, never),
  view: (s) => s.view('nymph/v', 'nymph/A', {}, never),
  update: (s) => s.update('nymph/b', { z: '3' }, ['labels.z']),
  'a lazy layer': (s) =>
    s.prepare('nymph/extract c', 'nymph/A', { [LABEL_TARGET]: 'c' }, never).catch((error) => {
      if (error.code !== 'exists') throw error;
    }),
  'remove a view': (s) => s.remove('nymph/v'),
  'commit a second layer': (s) => s.commit('nymph/B', 'nymph/b', {}, ''),
  'prepare on two layers': (s) => s.prepare('nymph/c', 'nymph/B', {}, never),
  'remove what was written': (s) => s.remove('nymph/c'),
  'remove a layer': (s) => s.remove('nymph/B'),
  cleanup: (s) => s.cleanup(),
  'prepare again': (s) => s.prepare('nymph/b', 'nymph/A', {}, never),
};

const lazy: LazyLayers = {
  claim: async () => ({ here: true }),
  lowers: async () => undefined,
  committed: () => {},
  began: () => {},
  release: async () => {},
  restore: async () => {},
};

async function stateOf(s: Snapshotter): Promise<State> {
  const state: State = {};
  for await (const infos of s.list([]))
    for (const { name, kind, parent, labels } of infos) state[name] = JSON.stringify({ kind, parent, labels });
  return state;
}

const DISK_STEPS = ['mkdir', 'chmod', 'chown', 'rename', 'syncDirectory', 'owner'] as const;
const STORE_STEPS = ['create', 'commit', 'setLabels', 'remove'] as const;

/** Steps are counted; `step` may throw, before a step or, where it is done, after it. */
function withSteps(step: (name: string) => void): {
  disk: Disk;
  store: (real: Store) => Store;
  beforeSync: () => void;
  /** Resolves when nothing is done in the background: so the steps of each call are the same in every run. */
  quiet: () => Promise<void>;
} {
  let underWay = 0;
  const disk = { ...localDisk } as Record<string, (...args: never[]) => Promise<unknown>>;
  for (const name of DISK_STEPS) {
    const real = disk[name];
    disk[name] = async (...args) => {
      underWay++;
      try {
        step(name);
        const result = await real(...args);
        step(`${name} done`);
        return result;
      } finally {
        underWay--;
      }
    };
  }
  const store = (real: Store) => {
    const wrapped = { ...real } as unknown as Record<string, (...args: never[]) => unknown>;
    for (const name of STORE_STEPS) {
      const act = wrapped[name];
      wrapped[name] = (...args) => {
        step(name);
        const result = act(...args);
        step(`${name} done`);
        return result;
      };
    }
    return wrapped as unknown as Store;
  };
  const quiet = async () => {
    // What an answer sets off begins in a later turn.
    for (let turns = 0; turns < 3; turns = underWay > 0 ? 0 : turns + 1) await nextTurn();
  };
  return { disk: disk as unknown as Disk, store, beforeSync: () => step('sync'), quiet };
}

/** Checks a snapshotter after a restart: one of the states, nothing beside it, and it works. */
async function checkAfter(kit: Kit, allowed: State[], context: string): Promise<void> {
  const { snapshotter: s, home, lines } = kit;
  const state = await stateOf(s);
  assert.ok(
    allowed.some((one) => JSON.stringify(sorted(one)) === JSON.stringify(sorted(state))),
    `${context}: ${JSON.stringify(state)} is none of ${JSON.stringify(allowed)}`,
  );
  await s.cleanup();
  assert.equal(onDisk(home).ids.length, Object.keys(state).length, `${context}: directories`);
  assert.deepEqual(onDisk(home).trash, [], context);
  for (const [name, info] of Object.entries(state)) {
    if (JSON.parse(info).kind === 'committed') continue;
    const [mount] = await s.mounts(name, never);
    const upper = mount.options.find((option) => option.startsWith('upperdir='))?.slice('upperdir='.length);
    assert.ok(existsSync(upper ?? mount.source), `${context}: ${name} has its directory`);
  }
  const [fresh] = await s.prepare('nymph/fresh', '', {}, never);
  assert.deepEqual(readdirSync(fresh.source), [], `${context}: a new snapshot is empty`);
  await s.commit('nymph/FRESH', 'nymph/fresh', {}, '');
  await s.remove('nymph/FRESH');
  assert.ok(!lines.some(({ level, message }) => level === 'error' && !/lost its directory/.test(message)), context);
}

const sorted = (state: State) => Object.entries(state).sort();

/** Runs the calls until one fails. @returns the states before and after that one, or before and after the last */
async function runCalls(
  s: Snapshotter,
  quiet: () => Promise<void>,
): Promise<{ failed: string | undefined; allowed: State[] }> {
  let state: State = {};
  for (const [name, call] of Object.entries(CALLS)) {
    const next = await expected(name);
    try {
      await call(s);
    } catch {
      return { failed: name, allowed: [state, next] };
    }
    await quiet();
    state = next;
  }
  return { failed: undefined, allowed: [state] };
}

/** The state after a call, on a sound disk. */
const after_: Record<string, State> = {};
async function expected(call: string): Promise<State> {
  if (Object.keys(after_).length === 0) {
    const root = mkdtempSync(join(tmpdir(), 'nymph-'));
    const { snapshotter: s } = await openKit(root, { pool, lazy });
    for (const [name, act] of Object.entries(CALLS)) {
      await act(s);
      after_[name] = await stateOf(s);
    }
    await s.close();
    rmSync(root, { recursive: true });
  }
  return after_[call];
}

for (const mode of ['kill', 'error'] as const)
  test(`${mode} at every step of every call`, async (t) => {
    // What is made under a mask needs one step more.
    const mask = process.umask(0o027);
    t.after(() => process.umask(mask));
    const failedCalls = new Set<string>();
    for (let failAt = 1; ; failAt++) {
      const root = mkdtempSync(join(tmpdir(), 'nymph-'));
      let steps = 0;
      let armed = false;
      let where = '';
      const faulty = withSteps((name) => {
        if (!armed) return;
        steps++;
        if (steps === failAt) where = name;
        if (mode === 'kill' ? steps >= failAt : steps === failAt)
          throw Object.assign(new Error(`EIO at ${name}: injected`), { code: 'EIO' });
      });
      const kit = await openKit(root, { pool, lazy, ...faulty });
      armed = true;
      const { failed, allowed } = await runCalls(kit.snapshotter, faulty.quiet);
      armed = mode === 'kill';
      const context = `${mode} at step ${failAt} (${where}) of ${failed}`;
      if (mode === 'error' && failed !== undefined) {
        // It goes on without a restart.
        const state = await stateOf(kit.snapshotter);
        await checkAfter({ ...kit, lines: [] }, allowed, context);
        assert.deepEqual(await stateOf(kit.snapshotter), state, context);
      }
      const again = await openKit(root, { pool, lazy });
      await checkAfter(again, allowed, `${context}, restarted`);
      await again.snapshotter.close();
      armed = false;
      await kit.snapshotter.close();
      rmSync(root, { recursive: true });
      if (failed === undefined) {
        assert.ok(steps < failAt || failedCalls.size > 0);
        if (steps < failAt) break;
      } else failedCalls.add(failed);
    }
    // Cleaning up is not what fails a call.
    assert.deepEqual(
      [...failedCalls].sort(),
      Object.keys(CALLS)
        .filter((name) => name !== 'cleanup')
        .sort(),
    );
  });

/** The log when half of what is new in it has reached the disk. */
function halfWritten(before: Buffer, after: Buffer): Buffer {
  const differs = (byte: number, i: number) => byte !== before[i];
  const first = after.findIndex(differs);
  if (first < 0) return after;
  const middle = (first + after.findLastIndex(differs)) >> 1;
  return Buffer.concat([after.subarray(0, middle), before.subarray(middle)]);
}

test('a power cut at every step: nothing that was acknowledged is lost', async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'nymph-'));
  t.after(() => rmSync(root, { recursive: true, force: true }));
  interface Moment {
    context: string;
    allowed: State[];
    /** The log as it is, and as the last sync has left it for sure. */
    log: Buffer;
    durableLog: Buffer;
    directories: string[];
    durableDirectories: string[];
  }
  const moments: Moment[] = [];
  const home = join(root, 'snapshots');
  const database = join(home, 'metadata.db');
  // Without the zeros behind it: SQLite writes over them.
  const readLog = () => {
    const log = readFileSync(`${database}-wal`);
    return log.subarray(0, log.findLastIndex((byte) => byte !== 0) + 1);
  };
  const listed = () => readdirSync(home).filter((name) => /^\d+$/.test(name));
  let durableLog = Buffer.alloc(0);
  let durableDirectories: string[] = [];
  let allowed: State[] = [{}];
  let context = '';
  let recording = false;
  const { disk, store, beforeSync } = withSteps((step) => {
    if (recording)
      moments.push({
        context: `${step} of ${context}`,
        allowed,
        log: readLog(),
        durableLog,
        directories: listed(),
        durableDirectories,
      });
  });
  const syncDirectory = disk.syncDirectory;
  const kit = await openKit(root, {
    pool,
    lazy,
    store,
    beforeSync,
    disk: {
      ...disk,
      syncDirectory: async (descriptor) => {
        const now = listed();
        await syncDirectory(descriptor);
        durableDirectories = now;
      },
    },
    aroundSync: async (sync) => {
      const now = readLog();
      await sync();
      durableLog = now;
    },
  });
  recording = true;
  let state: State = {};
  for (const [name, call] of Object.entries(CALLS)) {
    context = name;
    const next = await expected(name);
    allowed = [state, next];
    await call(kit.snapshotter);
    state = next;
    allowed = [state];
    moments.push({
      context: `after ${name}`,
      allowed,
      log: readLog(),
      durableLog,
      directories: listed(),
      durableDirectories,
    });
  }
  recording = false;
  const start = readFileSync(database);
  await kit.snapshotter.close();

  assert.ok(moments.length > 60, `${moments.length} moments`);
  let number = 0;
  const seen = new Set<string>();
  for (const moment of moments) {
    // What was not synced is there or not: log and directories each by themselves, and half of a write.
    const half = halfWritten(moment.durableLog, moment.log);
    for (const log of [moment.durableLog, moment.log, half])
      for (const directories of [moment.durableDirectories, moment.directories]) {
        const key = JSON.stringify([log.toString('base64'), directories, moment.allowed]);
        if (seen.has(key)) continue;
        seen.add(key);
        const copy = join(root, `copy${number++}`);
        mkdirSync(join(copy, 'snapshots'), { recursive: true });
        writeFileSync(join(copy, 'snapshots', 'metadata.db'), start);
        writeFileSync(join(copy, 'snapshots', 'metadata.db-wal'), log);
        // A removal that is not durable leaves what it moved away; one that is takes it.
        for (const id of directories)
          for (const name of ['fs', 'work']) mkdirSync(join(copy, 'snapshots', id, name), { recursive: true });
        const restarted = await openKit(copy, { pool, lazy });
        await checkAfter(restarted, moment.allowed, `power cut at ${moment.context}`);
        await restarted.snapshotter.close();
        rmSync(copy, { recursive: true });
      }
  }
  t.diagnostic(`${moments.length} moments, ${number} restarts`);
});
