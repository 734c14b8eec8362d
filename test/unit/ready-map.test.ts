import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Worker } from 'node:worker_threads';
import {
  addReadyBytes,
  attachReadyMap,
  clearReady,
  closeReadyMap,
  countClears,
  countReady,
  createReadyMap,
  isClosed,
  isReady,
  readyBytes,
  readyCells,
  setMark,
  setReady,
  takeMark,
} from '../../src/cache/ready-map.ts';
import { BLOCK_SIZE } from '../../src/image/image.ts';

const random = (n: number) => Math.floor(Math.random() * n);

/** Blocks of the map that a range touches. */
function touched(blocks: number, offset: number, length: number): number[] {
  const result: number[] = [];
  if (length <= 0 || offset < 0) return result;
  for (let block = Math.floor(offset / BLOCK_SIZE); block * BLOCK_SIZE < offset + length; block++) {
    if (block < blocks) result.push(block);
  }
  return result;
}

test('agrees with a set of block numbers', () => {
  for (let round = 0; round < 60; round++) {
    const size = round < 4 ? round : random(300 * BLOCK_SIZE);
    const map = createReadyMap(size);
    const blocks = Math.ceil(size / BLOCK_SIZE);
    assert.equal(map.blocks, blocks);
    const ready = new Set<number>();
    const marks = new Set<number>();
    for (let step = 0; step < 200; step++) {
      const offset = random(size + 3 * BLOCK_SIZE);
      const length = random(random(2) ? 3 * BLOCK_SIZE : size + BLOCK_SIZE);
      const inside = touched(blocks, offset, length);
      switch (random(5)) {
        case 0:
          setReady(map, offset, length);
          for (const block of inside) ready.add(block);
          break;
        case 1:
          clearReady(map, offset, length);
          for (const block of inside) ready.delete(block);
          break;
        case 2: {
          const all = length <= 0 || (offset + length <= blocks * BLOCK_SIZE && inside.every((b) => ready.has(b)));
          assert.equal(isReady(map, offset, length), all, `${offset}+${length} of ${size}`);
          break;
        }
        case 3:
          setMark(map, offset);
          for (const block of touched(blocks, offset, 1)) marks.add(block);
          break;
        case 4: {
          const hit = inside.some((block) => marks.has(block));
          assert.equal(takeMark(map, offset, length), hit);
          for (const block of inside) marks.delete(block);
        }
      }
      assert.equal(countReady(map), ready.size);
    }
    const bytes = readyBytes(map);
    for (let block = 0; block < bytes.length * 8; block++) {
      assert.equal((bytes[block >> 3] >> (block & 7)) & 1, ready.has(block) ? 1 : 0);
    }
    const copy = createReadyMap(size);
    addReadyBytes(copy, bytes);
    assert.deepEqual(readyBytes(copy), bytes);
  }
});

test('the last block, the empty map, and ranges outside', () => {
  const map = createReadyMap(64 * BLOCK_SIZE + 1);
  setReady(map, 0, 64 * BLOCK_SIZE);
  assert.equal(isReady(map, 0, 64 * BLOCK_SIZE), true);
  assert.equal(isReady(map, 0, 64 * BLOCK_SIZE + 1), false);
  setReady(map, 64 * BLOCK_SIZE, 1);
  assert.equal(isReady(map, 0, 65 * BLOCK_SIZE), true);
  assert.equal(isReady(map, 0, 65 * BLOCK_SIZE + 1), false);
  assert.equal(isReady(map, -1, 5), false);
  for (const far of [65 * BLOCK_SIZE, 2 ** 44, 2 ** 44 + 4096 * 3, 2 ** 52]) {
    clearReady(map, far, BLOCK_SIZE);
    setMark(map, far);
    assert.equal(isReady(map, far, 1), false, String(far));
  }
  clearReady(map, -BLOCK_SIZE * 40, BLOCK_SIZE);
  assert.equal(countReady(map), 65);
  assert.equal(map.blocks, 65);
  const empty = createReadyMap(0);
  setReady(empty, 0, BLOCK_SIZE);
  setMark(empty, 0);
  addReadyBytes(empty, Uint8Array.of(255));
  assert.equal(takeMark(empty, 0, BLOCK_SIZE), false);
  assert.equal(countReady(empty), 0);
  assert.equal(isReady(empty, 0, 1), false);
});

test('bytes of another map never set bits behind the end', () => {
  const map = createReadyMap(5 * BLOCK_SIZE);
  addReadyBytes(map, new Uint8Array(100).fill(255));
  assert.equal(countReady(map), 5);
  const long = createReadyMap(70 * BLOCK_SIZE);
  addReadyBytes(long, Uint8Array.of(255, 1));
  assert.equal(countReady(long), 9);
});

test('a clear is counted, also where the bit is set again', () => {
  const map = createReadyMap(10 * BLOCK_SIZE);
  setReady(map, 0, BLOCK_SIZE);
  assert.equal(countClears(map), 0);
  clearReady(map, 0, BLOCK_SIZE);
  setReady(map, 0, BLOCK_SIZE);
  assert.equal(countClears(map), 1);
});

test('closing is seen through the shared buffer, and changes no bit', () => {
  const map = createReadyMap(33 * BLOCK_SIZE);
  setReady(map, 0, 33 * BLOCK_SIZE);
  const other = attachReadyMap(map.words.buffer);
  assert.equal(other.blocks, 33);
  assert.equal(isClosed(other), false);
  closeReadyMap(map);
  assert.equal(isClosed(other), true);
  assert.equal(countReady(other), 33);
});

test('threads set, clear and mark at the same time without losing a bit', async () => {
  const blocks = 4096;
  const map = createReadyMap(blocks * BLOCK_SIZE);
  // Each thread owns every fourth block: neighbours in the same word belong to different threads.
  const code = `
    import { workerData, parentPort } from 'node:worker_threads';
    const { attachReadyMap, setReady, clearReady, setMark, takeMark, isReady } = await import(workerData.module);
    const map = attachReadyMap(workerData.buffer);
    const mine = new Set();
    let taken = 0, marked = 0;
    for (let step = 0; step < 60000; step++) {
      const block = Math.floor(Math.random() * ${blocks / 4}) * 4 + workerData.index;
      const at = block * 4096;
      if (Math.random() < 0.6) { setReady(map, at, 4096); mine.add(block); }
      else { clearReady(map, at, 4096); mine.delete(block); }
      if (isReady(map, at, 4096) !== mine.has(block)) throw new Error('lost a bit of its own');
      if (step % 7 === 0) { setMark(map, at); marked++; if (takeMark(map, at, 4096)) taken++; }
    }
    parentPort.postMessage({ mine: [...mine], lost: marked - taken });
  `;
  const module = new URL('../../src/cache/ready-map.ts', import.meta.url).href;
  const results = await Promise.all(
    [0, 1, 2, 3].map(
      (index) =>
        new Promise<{ mine: number[]; lost: number }>((resolve, reject) => {
          const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(code)}`), {
            workerData: { module, index, buffer: map.words.buffer },
          });
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  const expected = new Set(results.flatMap((result) => result.mine));
  for (let block = 0; block < blocks; block++) {
    assert.equal(isReady(map, block * BLOCK_SIZE, 1), expected.has(block), `block ${block}`);
  }
  assert.equal(countReady(map), expected.size);
  for (const { lost } of results) assert.equal(lost, 0);
  assert.ok(countClears(map) > 1000);
});

test('the cells of a picture say how much of each part is here', () => {
  const map = createReadyMap(1000 * BLOCK_SIZE);
  assert.deepEqual([...readyCells(map, 4)], [0, 0, 0, 0]);
  setReady(map, 0, 250 * BLOCK_SIZE);
  setReady(map, 500 * BLOCK_SIZE, 125 * BLOCK_SIZE);
  assert.deepEqual([...readyCells(map, 4)], [255, 0, 128, 0]);
  setReady(map, 0, 999 * BLOCK_SIZE);
  assert.deepEqual([...readyCells(map, 4)], [255, 255, 255, 254], 'full means full');
  assert.equal(readyCells(map, 5000).length, 1000, 'no more cells than blocks');
  assert.deepEqual([...readyCells(createReadyMap(0), 3)], [255], 'nothing of nothing is missing');
  const large = createReadyMap(2 ** 20 * BLOCK_SIZE);
  setReady(large, 0, 2 ** 19 * BLOCK_SIZE);
  assert.deepEqual([...readyCells(large, 2)], [255, 0]);
});
