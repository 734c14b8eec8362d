import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import type { Job } from '../../src/threads/job.ts';
import { createThreadPool } from '../../src/threads/pool.ts';

const directory = mkdtempSync(join(tmpdir(), 'nymph-threads-'));
after(() => rmSync(directory, { recursive: true }));

/** A job whose `run` has this body; `input` is its argument. */
function job(name: string, body: string): Job<unknown, unknown> {
  const path = join(directory, `${name}.mjs`);
  writeFileSync(path, `export function run(input) { ${body} }`);
  return { module: pathToFileURL(path).href };
}

const wait = 'Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, input.ms);';

test('jobs are done by threads, demand first, and errors come back as they are', async () => {
  const pool = createThreadPool(1);
  const order: string[] = [];
  const named = job('named', `${wait} return { output: input.name };`);
  const note = (name: unknown) => order.push(name as string);
  pool.warm(named);
  const first = pool.run(named, { name: 'first', ms: 30 }).then(note);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const blocking = pool.run(named, { name: 'blocking', ms: 50 }).then(note);
  const late = pool.run(named, { name: 'prefetch', ms: 0 }, { priority: 'prefetch' }).then(note);
  const early = pool.run(named, { name: 'demand', ms: 0 }).then(note);
  await Promise.all([first, blocking, late, early]);
  assert.deepEqual(order, ['first', 'blocking', 'demand', 'prefetch']);
  await assert.rejects(pool.run(job('throws', "throw new Error('as it is')"), {}), {
    code: 'internal',
    message: /as it is/,
  });
  await pool.close();
});

test('a thread that an early job has started loads what is wanted warm later', async () => {
  const pool = createThreadPool(1);
  const look = job('look', 'return { output: globalThis.loaded };');
  const path = join(directory, 'marks.mjs');
  writeFileSync(path, 'globalThis.loaded = true; export function run() {}');
  assert.equal(await pool.run(look, {}), undefined);
  pool.warm({ module: pathToFileURL(path).href });
  while ((await pool.run(look, {})) === undefined) await new Promise((resolve) => setTimeout(resolve, 10));
  await pool.close();
});

test('a thread that dies takes its job with it, and no other', async () => {
  const pool = createThreadPool(1);
  const dies = job('dies', 'process.exit(1)');
  const lives = job('lives', 'return { output: input };');
  const dead = assert.rejects(pool.run(dies, {}, { bytes: 10 }), { code: 'internal', retryable: true });
  const alive = pool.run(lives, 7, { bytes: 5 });
  await dead;
  assert.equal(await alive, 7);
  assert.equal(pool.backlog, 0);
  await pool.close();
});

test('a thread that is ended while it loads an addon lets it load', async () => {
  const path = join(directory, 'addon.mjs');
  writeFileSync(
    path,
    `import { createRequire } from 'node:module';
createRequire('${import.meta.filename}')('koffi');
export function run() {}`,
  );
  for (let i = 0; i < 8; i++) {
    const pool = createThreadPool(2);
    pool.warm({ module: pathToFileURL(path).href });
    await new Promise((resolve) => setTimeout(resolve, i * 8));
    await pool.close();
  }
});

test('a job that cannot be loaded is an error, not a loop', async () => {
  const pool = createThreadPool(2);
  const absent = { module: pathToFileURL(join(directory, 'absent.mjs')).href };
  pool.warm(absent);
  await assert.rejects(pool.run(absent, {}), { code: 'internal' });
  await pool.close();
  await assert.rejects(pool.run(absent, {}), { code: 'cancelled' });
});

test('the backlog says when there is room', async () => {
  const pool = createThreadPool(1);
  const sleeps = job('sleeps', `${wait} return { output: 0 };`);
  const work = [1, 2, 3].map(() => pool.run(sleeps, { ms: 20 }, { bytes: 100 }));
  assert.equal(pool.backlog, 300);
  await pool.below(150);
  assert.ok(pool.backlog < 150);
  await Promise.all(work);
  await pool.close();
});

test('who waits for the backlog goes on when what waited in it is given up', async () => {
  const pool = createThreadPool(1);
  const queued = assert.rejects(pool.run(job('queued', 'return { output: input };'), 7, { bytes: 10 }), {
    code: 'cancelled',
  });
  const waiting = pool.below(1);
  await pool.close();
  await queued;
  await waiting;
});
