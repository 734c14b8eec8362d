import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import { serialize } from 'node:v8';
import type { CachedBlob } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';
import { clearReady } from '../../src/cache/ready-map.ts';
import { digestEquals, digestOf } from '../../src/codec/digest.ts';
import {
  assertNothingWrong,
  makeSample,
  readyChunks,
  recordLog,
  type Sample,
  store,
  temporaryDirectory,
  until,
} from '../unit/cache-kit.ts';
import { type DurableDisk, durableDisk } from './cache-disk.ts';

const PAGE = 4096;

interface FileState {
  path: string;
  current: Buffer;
  /** What a power cut leaves for sure; empty if it was never synced. */
  durable: Buffer;
}

/** The store at one moment. */
interface Moment {
  operation: string;
  files: FileState[];
}

/** What is left of a file after a power cut: each page as it was at the last sync, or as it is now. */
type Mix = (file: FileState) => Buffer;

const mixes: Record<string, Mix> = {
  'bits newest, data oldest': (file) => (file.path.endsWith('/data') ? padded(file) : file.current),
  'bits oldest, data newest': (file) => (file.path.endsWith('/data') ? file.current : padded(file)),
  'all oldest': padded,
  'never synced files are empty': (file) => file.durable,
  'each page by chance': (file) => {
    const mixed = Buffer.from(file.current);
    const old = padded(file);
    for (let at = 0; at < mixed.length; at += PAGE) if (Math.random() < 0.5) old.copy(mixed, at, at, at + PAGE);
    return mixed;
  },
  'half pages by chance': (file) => {
    const mixed = Buffer.from(file.current);
    const old = padded(file);
    for (let at = 0; at < mixed.length; at += 512) if (Math.random() < 0.5) old.copy(mixed, at, at, at + 512);
    return mixed;
  },
};

/** The oldest content in the size of now. */
function padded(file: FileState): Buffer {
  const content = Buffer.alloc(file.current.length);
  file.durable.copy(content);
  return content;
}

function capture(root: string, operation: string, disk: DurableDisk): Moment {
  const files: FileState[] = [];
  for (const entry of readdirSync(join(root, 'blobs'), { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const path = join(entry.parentPath, entry.name);
    files.push({
      path: path.slice(root.length + 1),
      current: readFileSync(path),
      durable: Buffer.from(disk.durable(path) ?? []),
    });
  }
  return { operation, files };
}

async function restart(root: string, moment: Moment, mix: Mix, sample: Sample, context: string): Promise<number> {
  for (const file of moment.files) {
    mkdirSync(join(root, file.path, '..'), { recursive: true });
    writeFileSync(join(root, file.path), mix(file));
  }
  const cache = await openCache(root, { bootId: 'second boot' });
  const cached = await cache.open(sample.blob);
  assertNothingWrong(cached, sample.content, `${context}, at once`);
  const before = readyChunks(cached).length;
  await new Promise((resolve) => setTimeout(resolve, 10));
  assertNothingWrong(cached, sample.content, `${context}, later`);
  await cache.release(cached);
  const again = await cache.open(sample.blob);
  assertNothingWrong(again, sample.content, `${context}, opened again`);
  await cache.close();
  return before;
}

test('a power cut at any moment, whatever pages it loses: nothing wrong is ready', async (t) => {
  const directory = temporaryDirectory(t);
  const root = join(directory, 'live');
  const sample = makeSample('power cut', 14, 12_000);
  const moments: Moment[] = [];
  // Bytes that rot on the disk are found by nobody until somebody reads them: no promise between the two.
  let rotten = false;
  let whileSyncing = () => {};
  const disk: DurableDisk = durableDisk((operation) => {
    if (!rotten && existsSync(join(root, 'blobs'))) moments.push(capture(root, operation, disk));
    if (operation === 'datasync done') whileSyncing();
  });
  const cache = await openCache(root, { disk, bootId: 'first boot' });
  let cached: CachedBlob = await cache.open(sample.blob);
  for (let round = 0; round < 3; round++) {
    for (let chunk = round; chunk < 10; chunk += 3) store(cache, cached, sample, chunk);
    await new Promise((resolve) => setTimeout(resolve, 100)); // bits are written
    store(cache, cached, sample, 10 + round); // and this one is new when the sync begins
    if (round === 2) whileSyncing = () => store(cache, cached, sample, 13); // too late for this sync
    await cache.release(cached);
    whileSyncing = () => {};
    cached = await cache.open(sample.blob);
  }
  // A chunk rots, is found wrong, and is fetched again.
  rotten = true;
  const rot = Buffer.alloc(100, 0xee);
  writeSync(cached.fd, rot, 0, rot.length, cached.chunks.offset[4]);
  disk.durable(cached.dataPath)?.set(rot, cached.chunks.offset[4]);
  clearReady(cached.ready, cached.chunks.offset[4], cached.chunks.size[4]);
  cache.changed(cached);
  await new Promise((resolve) => setTimeout(resolve, 50)); // the cleared bit is on the disk
  rotten = false;
  store(cache, cached, sample, 4);
  await new Promise((resolve) => setTimeout(resolve, 100));
  await cache.release(cached);
  await cache.close();

  assert.ok(moments.length > 30, `${moments.length} moments`);
  const best: Record<string, number> = {};
  let number = 0;
  for (const moment of moments) {
    for (const [name, mix] of Object.entries(mixes)) {
      const copy = join(directory, String(number++));
      const ready = await restart(copy, moment, mix, sample, `before ${moment.operation} (${number}), ${name}`);
      best[name] = Math.max(best[name] ?? 0, ready);
      rmSync(copy, { recursive: true });
    }
  }
  // It is no use to be right by having nothing.
  for (const name of ['bits newest, data oldest', 'all oldest']) assert.ok(best[name] > 8, `${name}: ${best[name]}`);
  t.diagnostic(`${moments.length} moments, ${number} restarts`);
});

test('after a restart of the machine unsynced chunks count once they are verified', async (t) => {
  for (const algorithm of ['sha256', 'blake3'] as const) {
    const root = join(temporaryDirectory(t), algorithm);
    const sample = makeSample(`recheck ${algorithm}`, 20, 3_000_000, algorithm);
    const first = await openCache(root, { bootId: 'one' });
    const cached = await first.open(sample.blob);
    for (const chunk of [0, 1, 2]) store(first, cached, sample, chunk);
    await first.release(cached);
    const open = await first.open(sample.blob);
    for (const chunk of [5, 6, 7, 8]) store(first, open, sample, chunk);
    await new Promise((resolve) => setTimeout(resolve, 150)); // current bits are written, and nothing is synced
    const copy = `${root}-copy`;
    copyStore(root, copy);
    await first.close();
    // Chunk 6 was lost in part.
    const data = join(copy, 'blobs', cached.key, 'data');
    const bytes = readFileSync(data);
    bytes[sample.blob.chunks.offset[6] + sample.blob.chunks.size[6] - 1] ^= 1;
    writeFileSync(data, bytes);
    const { log, lines } = recordLog();
    const second = await openCache(copy, { bootId: 'two', log });
    const again = await second.open(sample.blob);
    await until(() => lines.some((line) => line.includes('verified')));
    assert.deepEqual(readyChunks(again), [0, 1, 2, 5, 7, 8]);
    assert.ok(
      lines.some((line) => line.includes('"right":3,"wrong":1')),
      lines.join('\n'),
    );
    await second.close();
    // And that is remembered.
    const third = await openCache(copy, { bootId: 'three' });
    assert.deepEqual(readyChunks((await third.open(sample.blob))!), [0, 1, 2, 5, 7, 8]);
    await third.close();
  }
});

test('a long-lived entry is synced every few seconds', async (t) => {
  const root = join(temporaryDirectory(t), 'root');
  const sample = makeSample('synced', 10);
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  const cache = await openCache(root, { bootId: 'one' });
  const cached = await cache.open(sample.blob);
  for (const chunk of [1, 2, 3]) store(cache, cached, sample, chunk);
  mock.timers.tick(5000);
  mock.timers.reset();
  await new Promise((resolve) => setTimeout(resolve, 300));
  const copy = `${root}-copy`;
  copyStore(root, copy);
  const data = readFileSync(join(copy, 'blobs', cached.key, 'data'));
  const other = await openCache(copy, { bootId: 'two' });
  const again = await other.open(sample.blob);
  assert.deepEqual(readyChunks(again), [1, 2, 3], 'at once, without verifying');
  assert.ok(
    digestEquals(
      again.chunks.digest,
      1,
      digestOf('sha256', data.subarray(again.chunks.offset[1]).subarray(0, again.chunks.size[1])),
    ),
  );
  await other.close();
  await cache.close();
});

/** The files as another process would find them. */
function copyStore(from: string, to: string): void {
  for (const entry of readdirSync(from, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || entry.name.endsWith('-shm')) continue;
    const path = join(entry.parentPath, entry.name);
    const target = join(to, path.slice(from.length));
    mkdirSync(join(target, '..'), { recursive: true });
    copyFileSync(path, target);
  }
}

test('kill -9 of a real process: the lock is free, nothing is wrong, and most is kept', async (t) => {
  const directory = temporaryDirectory(t);
  const root = join(directory, 'root');
  const sample = makeSample('killed', 400, 30_000);
  writeFileSync(join(directory, 'sample'), serialize(sample));
  const code = `
    import { readFileSync } from 'node:fs';
    import { deserialize } from 'node:v8';
    const { openCache } = await import(${JSON.stringify(new URL('../../src/cache/open.ts', import.meta.url).href)});
    const { store } = await import(${JSON.stringify(new URL('../unit/cache-kit.ts', import.meta.url).href)});
    const sample = deserialize(readFileSync(${JSON.stringify(join(directory, 'sample'))}));
    const cache = await openCache(${JSON.stringify(root)});
    let cached = await cache.open(sample.blob);
    process.stdout.write('open\\n');
    for (let step = 0; ; step++) {
      store(cache, cached, sample, Math.floor(Math.random() * 400));
      if (step % 16 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      if (step % 900 === 899) { await cache.release(cached); cached = await cache.open(sample.blob); }
    }
  `;
  let kept = 0;
  for (let round = 0; round < 8; round++) {
    const child = spawn(process.execPath, ['--input-type=module', '-e', code], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(child.stdout, 'data');
    if (round === 0) {
      await assert.rejects(openCache(root), {
        code: 'busy',
        message: new RegExp(`process ${child.pid}:`),
      });
    }
    await new Promise((resolve) => setTimeout(resolve, 20 + Math.random() * 200));
    child.kill('SIGKILL');
    await once(child, 'exit');
    const cache = await openCache(root);
    const cached = await cache.reopen(sample.blob.id);
    assert.ok(cached);
    assertNothingWrong(cached, sample.content, `round ${round}`);
    kept = Math.max(kept, readyChunks(cached).length);
    await cache.release(cached);
    if (round % 3 === 2) await cache.prune(0);
    if (round % 3 === 2) await cache.release(await cache.open(sample.blob));
    await cache.close();
  }
  assert.ok(kept > 100, `${kept} chunks`);
});
