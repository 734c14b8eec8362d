import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { run as remove } from '../../src/snapshotter/removal-job.ts';
import { createMeter } from '../../src/snapshotter/usage.ts';
import { run as measure, type UsageInput } from '../../src/snapshotter/usage-job.ts';

function place(t: TestContext): string {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'nymph-')));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function makeTree(tree: string): void {
  for (const name of ['', 'a', 'a/b', 'empty', 'many']) mkdirSync(join(tree, name));
  writeFileSync(join(tree, 'a', 'big'), Buffer.alloc(1 << 20, 1));
  writeFileSync(join(tree, 'a', 'b', 'small'), 'x');
  linkSync(join(tree, 'a', 'big'), join(tree, 'a', 'b', 'big-too'));
  linkSync(join(tree, 'a', 'big'), join(tree, 'big-three'));
  symlinkSync('/etc', join(tree, 'link'));
  writeFileSync(Buffer.concat([Buffer.from(`${tree}/`), Buffer.from([0xff, 0x41])]), 'not UTF-8');
  for (let i = 0; i < 100; i++) writeFileSync(join(tree, 'many', `f${i}`), 'y'.repeat(i * 50));
}

/** As `du` has it. */
function du(tree: string): { size: number; inodes: number } {
  const ask = (...options: string[]) =>
    Number.parseInt(spawnSync('du', ['-sx', ...options, tree]).stdout.toString(), 10);
  return { size: ask('-B1'), inodes: ask('--inodes') };
}

/** Calls a job until nothing is left. */
async function usage(tree: string, time = 10_000): Promise<{ size: number; inodes: number; jobs: number }> {
  let jobs = 0;
  const meter = createMeter(async (input: UsageInput) => {
    jobs++;
    return measure({ ...input, time }).output;
  });
  return { ...(await meter.measure(tree)), jobs };
}

test('usage is what du counts, in one job or in many', async (t) => {
  const tree = join(place(t), 'tree');
  makeTree(tree);
  const expected = du(tree);
  assert.ok(expected.size > 1 << 20 && expected.size < 2 << 20);
  assert.deepEqual(await usage(tree), { ...expected, jobs: 1 });
  const slowly = await usage(tree, 0);
  assert.deepEqual({ size: slowly.size, inodes: slowly.inodes }, expected);
  assert.ok(slowly.jobs > 3, `${slowly.jobs} jobs`);
});

test('many trees share a job; what vanishes takes nothing', async (t) => {
  const directory = place(t);
  const trees = Array.from({ length: 10 }, (_, i) => join(directory, `t${i}`));
  for (const tree of trees.slice(1)) mkdirSync(tree);
  let jobs = 0;
  const meter = createMeter(async (input) => {
    jobs++;
    await new Promise(setImmediate);
    return measure({ ...input, time: 10_000 }).output;
  });
  const usages = await Promise.all(trees.map((tree) => meter.measure(tree)));
  assert.deepEqual(usages[0], { size: 0, inodes: 0 });
  for (const one of usages.slice(1)) assert.equal(one.inodes, 1);
  assert.ok(jobs <= 2, `${jobs} jobs`);
  meter.close();
  await assert.rejects(meter.measure(trees[1]), { code: 'cancelled' });
});

test('a link that takes the place of a directory between two jobs is not followed', async (t) => {
  const directory = place(t);
  const [tree, outside] = [join(directory, 'tree'), join(directory, 'outside')];
  for (const path of [tree, outside, join(tree, 'a'), join(tree, 'a', 'b'), join(outside, 'b')]) mkdirSync(path);
  writeFileSync(join(outside, 'b', 'secret'), Buffer.alloc(1 << 20, 1));
  let jobs = 0;
  const meter = createMeter(async (input) => {
    if (++jobs === 3) {
      // `tree/a` was read, `tree/a/b` is next.
      renameSync(join(tree, 'a'), join(directory, 'away'));
      symlinkSync(outside, join(tree, 'a'));
    }
    return measure({ ...input, time: 0 }).output;
  });
  const { size, inodes } = await meter.measure(tree);
  assert.equal(jobs, 3);
  assert.equal(inodes, 3);
  assert.ok(size < 1 << 20);
});

/** Calls the job until it says that it is done. */
function empty(trash: string, time: number) {
  for (let jobs = 1, stuck: string[] = []; ; jobs++) {
    const { output } = remove({ trash, stuck, prefix: `p${jobs}-`, time });
    stuck = output.stuck;
    if (output.done) return { jobs, ...output };
    assert.ok(jobs < 10_000, 'it does not end');
  }
}

test('removal empties the trash, in one job or in many, and follows no link', (t) => {
  for (const time of [100_000, 0]) {
    const directory = place(t);
    const [trash, outside] = [join(directory, 'trash'), join(directory, 'outside')];
    mkdirSync(trash);
    mkdirSync(outside);
    writeFileSync(join(outside, 'kept'), 'kept');
    makeTree(join(trash, '7-x'));
    makeTree(join(trash, '8-x'));
    symlinkSync(outside, join(trash, '8-x', 'a', 'to-outside'));
    symlinkSync(outside, join(trash, 'link'));
    writeFileSync(join(trash, 'file'), 'x');
    const { jobs, stuck } = empty(trash, time);
    assert.deepEqual(stuck, []);
    assert.ok(time === 0 ? jobs > 10 : jobs === 1, `${jobs} jobs`);
    assert.deepEqual(readdirSync(trash), []);
    assert.deepEqual(readdirSync(outside), ['kept']);
  }
});

test('a tree deeper than any path can name is removed', (t) => {
  const trash = place(t);
  const name = 'd'.repeat(200);
  // Built from the bottom: the path of what is moved stays short.
  mkdirSync(join(trash, 'deep'));
  for (let depth = 0; depth < 100; depth++) {
    mkdirSync(join(trash, 'next'));
    renameSync(join(trash, 'deep'), join(trash, 'next', name));
    renameSync(join(trash, 'next'), join(trash, 'deep'));
  }
  assert.deepEqual(empty(trash, 0).stuck, []);
  assert.deepEqual(readdirSync(trash), []);
});

test('a mount point in the trash stays, and so does all that is mounted', (t) => {
  if (process.getuid!() !== 0) return t.skip('needs root: it mounts');
  const directory = place(t);
  const [trash, outside] = [join(directory, 'trash'), join(directory, 'outside')];
  for (const path of [trash, outside, join(trash, '5-x'), join(trash, '5-x', 'a'), join(trash, '5-x', 'a', 'm')])
    mkdirSync(path);
  writeFileSync(join(outside, 'kept'), 'kept');
  writeFileSync(join(trash, '5-x', 'gone'), 'x');
  const at = join(trash, '5-x', 'a', 'm');
  const mounted = spawnSync('mount', ['--bind', outside, at]);
  assert.equal(mounted.status, 0, String(mounted.stderr));
  let where = at;
  t.after(() => void spawnSync('umount', ['--lazy', where]));
  const { stuck, why } = empty(trash, 10_000);
  assert.match(why!, /EBUSY/);
  assert.equal(stuck.length, 1);
  assert.ok(!existsSync(join(trash, '5-x')), 'all above the mount point is gone');
  where = join(trash, stuck[0], 'm');
  assert.deepEqual(readdirSync(where), ['kept']);
  assert.equal(spawnSync('umount', [where]).status, 0);
  assert.deepEqual(empty(trash, 10_000).stuck, []);
  assert.deepEqual(readdirSync(trash), []);
  assert.equal(lstatSync(join(outside, 'kept')).size, 4);
});
