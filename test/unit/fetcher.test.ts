import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { countReady, isReady } from '../../src/cache/ready-map.ts';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import { DEFAULT_POLICY } from '../../src/fetch/policy.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob, pieces, scriptedSource, unavailable } from '../blob.ts';

const pool = createThreadPool(2);
after(() => pool.close());
const never = new AbortController().signal;

const sizes = (count: number, size: number) => Array.from({ length: count }, () => size);

test('a read brings its chunks, verified and in place, and says so', async () => {
  const blob = makeBlob([5000, 4096, 1, 100_000]);
  const made = fetchContext(pool, { amplify: 0 });
  const source = scriptedSource(blob.stored);
  const fetcher = createFetcher(blob.cached, source, made);
  assert.deepEqual(await fetcher.need(4096, 4096, never), []);
  assert.equal(isReady(blob.cached.ready, 0, 5000), true);
  assert.equal(countReady(blob.cached.ready), 2, 'amplify 0 fetches only what is read');
  await fetcher.need(0, blob.cached.size, never);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await fetcher.close();
  assert.ok(made.changes >= 2);
  blob.close();
});

test('a source that says how much to take along is asked for that much', async () => {
  for (const [amplify, least, most] of [
    [0, 1, 1],
    [16_384, 3, 12],
  ]) {
    const blob = makeBlob(sizes(20, 4096));
    const source = { ...scriptedSource(blob.stored), amplify };
    const fetcher = createFetcher(blob.cached, source, fetchContext(pool, { amplify: 1 << 20 }));
    await fetcher.need(10 * 4096, 1, never);
    await fetcher.close();
    const ready = countReady(blob.cached.ready);
    assert.ok(ready >= least && ready <= most, `${ready} chunks with ${amplify} bytes`);
    blob.close();
  }
});

test('a chunk is fetched once, whoever asks', async () => {
  const blob = makeBlob(sizes(20, 50_000));
  const made = fetchContext(pool);
  const source = scriptedSource(blob.stored);
  const fetcher = createFetcher(blob.cached, source, made);
  await Promise.all(Array.from({ length: 50 }, (_, i) => fetcher.need((i % 20) * 53_248, 1000, never)));
  await fetcher.need(0, blob.cached.size, never);
  const asked = source.asked.reduce((sum, request) => sum + request.length, 0);
  assert.equal(asked, blob.stored.length);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await fetcher.close();
  blob.close();
});

test('what is missing behind a wanted chunk comes in the same request, and nothing before it', async () => {
  const blob = makeBlob(sizes(50, 4096));
  const source = scriptedSource(blob.stored);
  const fetcher = createFetcher(blob.cached, source, fetchContext(pool, { amplify: 32 << 10 }));
  await fetcher.need(25 * 4096, 1, never);
  await fetcher.close();
  assert.equal(source.asked.length, 1);
  assert.ok(isReady(blob.cached.ready, 25 * 4096, 10 * 4096));
  assert.ok(source.asked[0].length <= (32 << 10) + 4096);
  assert.equal(isReady(blob.cached.ready, 24 * 4096, 4096), false);
  blob.close();
});

test('ranges that are gathered come together: near ones in one request, all at once, each once', async () => {
  const blob = makeBlob(sizes(100, 16_384));
  const made = fetchContext(pool, { amplify: 0, gap: 32 << 10 });
  const source = scriptedSource(blob.stored);
  const fetcher = createFetcher(blob.cached, source, made);
  const at = (chunk: number) => ({ offset: chunk * 16_384, length: 16_384 });
  // Out of order: near each other are 2, 3 and 5; 90 is far off; 40 is on its way already.
  const reading = fetcher.need(at(40).offset, 1, never);
  await fetcher.gather([at(90), at(5), at(2), at(40), at(3), at(2)], never);
  await reading;
  assert.equal(source.asked.length, 3);
  assert.equal(countReady(blob.cached.ready), 5 * 4);
  await fetcher.gather([at(2), at(90)], never);
  assert.equal(source.asked.length, 3, 'what is here is not asked for');
  await fetcher.close();
  blob.close();
});

test('a source that fails, cuts or lies is asked again, and no wrong byte is kept', async () => {
  const blob = makeBlob(sizes(10, 30_000));
  const wrong = Buffer.from(blob.stored);
  wrong[wrong.length >> 1] ^= 1;
  const source = scriptedSource(blob.stored, [
    unavailable,
    unavailable,
    ({ offset, length }) => pieces(blob.stored.subarray(offset, offset + Math.floor(length / 3))),
    ({ offset, length }) => pieces(wrong.subarray(offset, offset + length)),
  ]);
  const made = fetchContext(pool);
  const fetcher = createFetcher(blob.cached, source, made);
  await fetcher.need(0, blob.cached.size, never);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  assert.equal(made.statistics.badChunks, 1);
  assert.equal(source.distrusted, 1);
  assert.ok(made.statistics.retries >= 4);
  await fetcher.close();
  blob.close();
});

test('one wrong answer after a long outage is not the last', async () => {
  const blob = makeBlob([9000]);
  const wrong = Buffer.from(blob.stored);
  wrong[wrong.length - 1] ^= 1;
  const outage = Array.from({ length: DEFAULT_POLICY.attempts + 2 }, () => unavailable);
  const source = scriptedSource(blob.stored, [...outage, () => pieces(wrong)]);
  const fetcher = createFetcher(blob.cached, source, fetchContext(pool, { pause: 1, maxPause: 2 }));
  await fetcher.need(0, 9000, never);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  assert.equal(source.asked.length, outage.length + 2);
  await fetcher.close();
  blob.close();
});

test('a source that always lies ends in an error, not in wrong bytes', async () => {
  const blob = makeBlob([9000]);
  const wrong = Buffer.from(blob.stored);
  wrong[wrong.length - 1] ^= 1;
  const lie = () => pieces(wrong);
  const source = scriptedSource(
    blob.stored,
    Array.from({ length: 100 }, () => lie),
  );
  const made = fetchContext(pool);
  const fetcher = createFetcher(blob.cached, source, made);
  await assert.rejects(fetcher.need(0, 1, never), { code: 'corrupt' });
  assert.equal(source.asked.length, DEFAULT_POLICY.attempts);
  assert.equal(made.statistics.failed, 1);
  assert.equal(countReady(blob.cached.ready), 0);
  await fetcher.close();
  blob.close();
});

test('a read that waits too long ends, and so does one that is interrupted; the next one works', async () => {
  const blob = makeBlob([9000]);
  const stall = async (_: unknown, signal: AbortSignal) => {
    await sleep(10_000, undefined, { signal });
    return pieces(blob.stored);
  };
  const fetcher = createFetcher(
    blob.cached,
    scriptedSource(blob.stored, [stall, stall]),
    fetchContext(pool, { deadline: 2_000 }),
  );
  await assert.rejects(fetcher.need(0, 1, never), { code: 'timeout' });
  const failed = performance.now();
  await assert.rejects(fetcher.need(0, 1, never), { code: 'timeout' });
  assert.ok(performance.now() - failed < 1_000, 'who asks again at once gets the same answer at once');
  await sleep(300);
  const abort = new AbortController();
  const waiting = fetcher.need(0, 1, abort.signal);
  abort.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  await fetcher.close();
  const again = createFetcher(blob.cached, scriptedSource(blob.stored), fetchContext(pool));
  await again.need(0, 9000, never);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await again.close();
  blob.close();
});

test('a request that is stuck does not hold up who asks after its reader has given up', async () => {
  const blob = makeBlob([9000]);
  const stall = (_: unknown, signal: AbortSignal) => sleep(10_000, pieces(blob.stored), { signal });
  const fetcher = createFetcher(
    blob.cached,
    scriptedSource(blob.stored, [stall]),
    fetchContext(pool, { deadline: 2_000 }),
  );
  await assert.rejects(fetcher.need(0, 1, never), { code: 'timeout' });
  await sleep(300);
  await fetcher.need(0, 9000, never);
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await fetcher.close();
  blob.close();
});

test('a fault does not wait for the prefetch that holds its chunk', async () => {
  const blob = makeBlob(sizes(40, 200_000));
  const { promise: gate, resolve: open } = Promise.withResolvers<void>();
  async function* slow(bytes: Uint8Array): AsyncIterable<Uint8Array> {
    yield bytes.slice(0, 1000);
    await gate;
    yield bytes.slice(1000);
  }
  const held = ({ offset, length }: { offset: number; length: number }) =>
    slow(blob.stored.subarray(offset, offset + length));
  const source = scriptedSource(blob.stored, [held, held]);
  const fetcher = createFetcher(
    blob.cached,
    source,
    fetchContext(pool, { prefetchRequest: 2 << 20, amplify: 100_000 }),
  );
  const filling = fetcher.fill(0, blob.cached.size, never);
  await sleep(20);
  // Far into the first request, and in one that has not begun.
  await Promise.all([fetcher.need(15 * 200_704, 1, never), fetcher.need(39 * 200_704, 1, never)]);
  open();
  await filling;
  assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  await fetcher.close();
  blob.close();
});

test('on a full disk reads go on, from memory', async () => {
  const blob = makeBlob(sizes(3, 10_000), '/dev/full');
  const fetcher = createFetcher(blob.cached, scriptedSource(blob.stored), fetchContext(pool));
  const loose = await fetcher.need(0, 10_000, never);
  const first = loose.find((chunk) => chunk.offset === 0)!;
  assert.deepEqual(Buffer.from(first.bytes), blob.flat.subarray(0, 10_000));
  assert.equal(countReady(blob.cached.ready), 0);
  await assert.rejects(fetcher.fill(0, blob.cached.size, never), { code: 'cache' });
  await fetcher.close();
  blob.close();
});

test('a sequential reader finds a window ahead of it; a random one pays for what it reads', async () => {
  const blob = makeBlob(sizes(200, 100_000));
  const source = scriptedSource(blob.stored);
  const fetcher = createFetcher(blob.cached, source, fetchContext(pool, { amplify: 0 }));
  const step = 128 << 10;
  let faults = 0;
  for (let at = 0; at < 8 << 20; at += step) {
    if (isReady(blob.cached.ready, at, step)) fetcher.reached(at);
    else {
      faults++;
      await fetcher.need(at, step, never);
    }
    await sleep(2);
  }
  await fetcher.close();
  assert.ok(faults < 30, `${faults} faults in 64 reads`);
  const random = createFetcher(blob.cached, source, fetchContext(pool, { amplify: 0 }));
  const before = countReady(blob.cached.ready);
  for (const chunk of [190, 150, 170]) await random.need(chunk * 102_400, 4096, never);
  await random.close();
  assert.equal(countReady(blob.cached.ready) - before, 3 * 25);
  blob.close();
});

test('closing ends what is under way', async () => {
  const blob = makeBlob([9000]);
  const stall = async (_: unknown, signal: AbortSignal) => {
    await sleep(60_000, undefined, { signal });
    return pieces(blob.stored);
  };
  const fetcher = createFetcher(blob.cached, scriptedSource(blob.stored, [stall]), fetchContext(pool));
  const waiting = assert.rejects(fetcher.need(0, 1, never));
  await sleep(5);
  await fetcher.close();
  await waiting;
  blob.close();
});

test('filling what is here already lets others have their turn', async () => {
  const blob = makeBlob(sizes(64, 4096));
  const made = fetchContext(pool, { prefetchRequest: 512 });
  const fetcher = createFetcher(blob.cached, scriptedSource(blob.stored), made);
  await fetcher.fill(0, blob.cached.size, never);
  let turns = 0;
  const tick = () => {
    turns++;
    soon = setImmediate(tick);
  };
  let soon = setImmediate(tick);
  await fetcher.fill(0, blob.cached.size, never);
  clearImmediate(soon);
  assert.ok(turns >= 64 - 1, `${turns} turns in 64 slices`);
  await fetcher.close();
  blob.close();
});
