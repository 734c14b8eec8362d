import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { NymphError } from '../../src/errors.ts';
import { createBudget } from '../../src/fetch/budget.ts';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import type { FetchPolicy } from '../../src/fetch/policy.ts';
import { createRace } from '../../src/fetch/race.ts';
import { statisticsOf } from '../../src/fetch/statistics.ts';
import type { Source } from '../../src/sources/source.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob, pieces, scriptedSource, unavailable } from '../blob.ts';
import { type TestClock, testClock } from '../clock.ts';
import { type MemorySwarmOptions, memorySwarm, stalled } from '../swarm.ts';

const pool = createThreadPool(2);
after(() => pool.close());
const never = new AbortController().signal;

/** Chunks of 30,000 bytes: most pieces of 100,000 begin and end within one. */
function stage(
  options: MemorySwarmOptions = {},
  more: { data?: string; budget?: number; background?: number; policy?: Partial<FetchPolicy> } = {},
) {
  const blob = makeBlob(
    Array.from({ length: 200 }, (_, i) => 20_000 + ((i * 7919) % 20_000)),
    more.data,
  );
  const clock = testClock(pool);
  const swarm = memorySwarm(blob.stored, options, clock);
  const made = {
    ...fetchContext(pool, { amplify: 0, prefetchRequest: 256 << 10, ...more.policy }),
    race: createRace(swarm, { budget: more.budget, background: more.background, clock }),
  };
  const start = (source: Source) => createFetcher(blob.cached, source, made);
  const bytes = () => ({
    swarm: statisticsOf(made.statistics, 'swarm').bytes,
    source: statisticsOf(made.statistics, 'script').bytes,
  });
  const right = () => assert.deepEqual(readFileSync(blob.cached.dataPath), blob.flat);
  return { blob, swarm, made, start, bytes, right, clock };
}

/** A source that takes so long for each answer, and sends so many bytes a millisecond. */
function slowSource(clock: TestClock, stored: Buffer, latency: number, rate = Number.POSITIVE_INFINITY) {
  let cancelled = 0;
  async function* slowly(bytes: Buffer, signal: AbortSignal): AsyncGenerator<Uint8Array> {
    for (let at = 0; at < bytes.length; at += 10_000) {
      if (rate < Number.POSITIVE_INFINITY) await wait(10_000 / rate, signal);
      yield bytes.subarray(at, at + 10_000);
    }
  }
  async function wait(milliseconds: number, signal: AbortSignal): Promise<void> {
    await clock.sleep(milliseconds, signal);
    if (!signal.aborted) return;
    cancelled++;
    throw new NymphError('cancelled', 'cancelled');
  }
  const asked: number[] = [];
  return {
    name: 'script',
    asked,
    get cancelled() {
      return cancelled;
    },
    async read(offset: number, length: number, signal: AbortSignal) {
      asked.push(offset);
      await wait(latency, signal);
      return slowly(stored.subarray(offset, offset + length), signal);
    },
  };
}

test('what peers have comes from them, each byte once, whatever the order of its pieces', async () => {
  for (const order of [
    undefined,
    (list: never[]) => list.reverse(),
    (list: never[]) => list.sort(() => Math.random() - 0.5),
  ]) {
    const { blob, start, right, bytes, swarm, clock } = stage({ order: order as MemorySwarmOptions['order'] });
    const source = scriptedSource(blob.stored);
    const fetcher = start(source);
    await clock.during(fetcher.fill(0, blob.cached.size, never));
    right();
    assert.equal(swarm.opened, 1);
    assert.ok(bytes().source <= 0.1 * blob.stored.length, `${bytes().source} bytes from the source`);
    await clock.during(fetcher.close());
    blob.close();
  }
});

test('a stream that has only begun is not slow by what earlier ones were', async () => {
  const { blob, start, made, right, bytes, clock } = stage({ delay: 50 });
  const end = made.race.streams.begin();
  made.race.streams.add(4 << 20);
  await clock.pass(1_000);
  end();
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(bytes().source, 0);
  await clock.during(fetcher.close());
  blob.close();
});

test('without peers the source is asked at once, and the two meet', async () => {
  const { blob, start, right, bytes, clock } = stage({ peers: false, delay: 20_000 });
  const source = scriptedSource(blob.stored);
  const fetcher = start(source);
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(bytes().source, blob.stored.length);
  await clock.during(fetcher.close());
  blob.close();
});

test('a slow source and a slow swarm that has begun share the work: the source begins at the end', async () => {
  const { blob, start, right, bytes, swarm, clock } = stage({ peers: false, rate: 20_000, delay: 1 });
  const source = slowSource(clock, blob.stored, 5, 5_000);
  const fetcher = start(source);
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  const { swarm: theirs, source: ours } = bytes();
  assert.ok(theirs > 0.2 * blob.stored.length, `${theirs} of ${blob.stored.length} from the swarm`);
  assert.ok(source.asked[0] > blob.stored.length / 3, `it began at ${source.asked[0]}`);
  assert.ok(theirs + ours < 1.6 * blob.stored.length, `${theirs} + ${ours} bytes`);
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('a fault waits for the stream where that is sooner, and asks the source as well when it is late', async () => {
  const { blob, start, made, swarm, clock } = stage({ rate: 1_000 });
  const source = slowSource(clock, blob.stored, 300);
  const fetcher = start(source);
  // The source is known to be slow.
  const count = statisticsOf(made.statistics, 'script');
  for (let i = 0; i < 10; i++) count.latency.add(3_000);
  for (let i = 0; i < 8; i++) for (const usual of [made.race.start, made.race.gap]) usual.add(500);
  await clock.during(fetcher.need(0, 1, never));
  await clock.until(() => swarm.sent > 1_200_000);
  const next = () => blob.cached.frames.offset.findIndex((offset) => offset > swarm.sent + 60_000);
  const asked = source.asked.length;
  await clock.during(fetcher.need(blob.cached.chunks.offset[next()], 1, never));
  assert.equal(source.asked.length, asked, 'the stream was close');
  swarm.options.each = (_, __, signal) => stalled(signal);
  await clock.during(fetcher.need(blob.cached.chunks.offset[next()], 1, never));
  assert.equal(source.asked.length, asked + 1);
  assert.equal(statisticsOf(made.statistics, 'script').hedgesWon, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('a stream that stalls holds nobody up, and what it brings later is not asked for again', async () => {
  const { blob, start, right, made, bytes, clock } = stage({
    each: (piece, i, signal) => (i < 8 ? piece : stalled(signal)),
  });
  const source = scriptedSource(blob.stored);
  const fetcher = start(source);
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.ok(bytes().swarm >= 700_000);
  assert.ok(bytes().source < blob.stored.length - 600_000, 'what the stream brought is kept');
  const { hedgesWon, hedgesLost } = statisticsOf(made.statistics, 'script');
  assert.ok(hedgesWon > 0 && hedgesLost === 0, `${hedgesWon} won, ${hedgesLost} lost`);
  await clock.during(fetcher.close());
  blob.close();
});

test('a swarm that lies, cuts, or has another object is left, and no wrong byte is kept', async () => {
  const cases: [string, MemorySwarmOptions][] = [
    ['lies', { each: (piece, i) => (i === 5 ? { ...piece, bytes: piece.bytes!.map((byte) => byte ^ 1) } : piece) }],
    [
      'cuts',
      { each: (piece, i) => (i === 5 ? Promise.reject(new NymphError('source', 'cut', { retryable: true })) : piece) },
    ],
    ['leaves out', { each: (piece, i) => (i % 2 === 1 ? undefined : piece) }],
    ['has less', { size: 1_000_000 }],
    ['has none', { each: () => Promise.reject(new NymphError('source', 'none', { retryable: true })) }],
    ['breaks', { each: () => Promise.reject(new TypeError('a defect')) }],
  ];
  for (const [name, options] of cases) {
    const { blob, start, right, bytes, swarm, clock } = stage(options);
    const fetcher = start(scriptedSource(blob.stored));
    await clock.during(fetcher.fill(0, blob.cached.size, never));
    right();
    assert.ok(bytes().source > 0, name);
    if (name === 'lies' || name === 'has less') {
      await clock.during(fetcher.need(0, 1, never));
      assert.equal(swarm.opened, 1, `${name}: it is not asked again`);
    }
    await clock.during(fetcher.close());
    blob.close();
  }
});

test('with the source away the stream answers its readers', async () => {
  const { blob, start, right, swarm, clock } = stage(
    { delay: 30, rate: 5_000 },
    { policy: { pause: 100, maxPause: 1_000 } },
  );
  const dead = scriptedSource(
    blob.stored,
    Array.from({ length: 10_000 }, () => unavailable),
  );
  const fetcher = start(dead);
  const { chunks } = blob.cached;
  await clock.during(Promise.all([199, 100, 0, 50].map((i) => fetcher.need(chunks.offset[i], 1, never))));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('a swarm that comes later is found by the next read', async () => {
  const { blob, start, right, swarm, bytes, clock } = stage({});
  swarm.present = false;
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.need(0, 1, never));
  assert.equal(swarm.opened, 0);
  assert.equal(bytes().swarm, 0);
  swarm.present = true;
  await clock.during(fetcher.need(blob.cached.chunks.offset[10], 1, never));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(swarm.opened, 1);
  assert.ok(bytes().swarm > 0.8 * blob.stored.length);
  await clock.during(fetcher.close());
  blob.close();
});

test('the loser of a race is cancelled', async () => {
  const { blob, start, swarm, clock } = stage({ peers: false, delay: 20 });
  const source = slowSource(clock, blob.stored, 2_000);
  const fetcher = start(source);
  const begun = performance.now();
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  assert.ok(performance.now() - begun < 1_900);
  await clock.until(() => source.cancelled === source.asked.length);
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('a stream that nobody needs any more is ended', async () => {
  const { blob, start, right, swarm, clock } = stage({ peers: undefined, rate: 500 });
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  await clock.until(() => swarm.ended === 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('nothing is streamed to a full disk', async () => {
  const { blob, start, swarm, clock } = stage({ rate: 2_000 }, { data: '/dev/full' });
  const fetcher = start(scriptedSource(blob.stored));
  const loose = await clock.during(fetcher.need(0, 20_000, never));
  assert.deepEqual(Buffer.from(loose[0].bytes), blob.flat.subarray(0, loose[0].bytes.length));
  await clock.until(() => swarm.ended === 1);
  await clock.during(fetcher.need(blob.cached.chunks.offset[100], 1, never));
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('where the source is quick, a stream waits until a start is over; a fill does not wait', async () => {
  const { blob, start, swarm, made, clock } = stage({}, { policy: { streamDelay: 60_000 } });
  const fetcher = start(scriptedSource(blob.stored));
  const { offset } = blob.cached.chunks;
  await clock.during(fetcher.need(offset[0], 1, never));
  await clock.pass(20);
  assert.equal(swarm.opened, 0);
  const { latency } = statisticsOf(made.statistics, 'script');
  for (let i = 0; i < 64; i++) latency.add(40);
  await clock.during(fetcher.need(offset[50], 1, never));
  await clock.until(() => swarm.opened === 1);
  await clock.during(fetcher.close());
  blob.close();
  const other = stage({}, { policy: { streamDelay: 60_000 } });
  const filled = other.start(scriptedSource(other.blob.stored));
  await clock.during(filled.need(0, 1, never));
  await clock.during(filled.fill(0, other.blob.cached.size, never));
  assert.equal(other.swarm.opened, 1);
  await filled.close();
  other.blob.close();
});

test('a stream that was put off while the swarm went away is opened by a later read', async () => {
  const { blob, start, swarm, clock } = stage({}, { policy: { streamDelay: 50 } });
  const fetcher = start(scriptedSource(blob.stored));
  const { offset } = blob.cached.chunks;
  const first = fetcher.need(offset[0], 1, never);
  swarm.present = false;
  await first;
  await clock.pass(150);
  swarm.present = true;
  await clock.during(fetcher.need(offset[50], 1, never));
  await clock.pass(150);
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  blob.close();
});

test('what nobody has comes from a quick source alone, and a seed is told of it afterwards', async () => {
  const { blob, start, right, swarm, bytes, clock } = stage({ peers: false }, { policy: { streamDelay: 300 } });
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(swarm.opened, 0);
  await clock.until(() => swarm.opened === 1 && swarm.ended === 1);
  assert.equal(bytes().swarm, 0);
  await clock.during(fetcher.close());
  blob.close();
  // Also where the blob is closed before it is time, as after a pull.
  const closed = stage({ peers: false, from: 'origin' }, { policy: { streamDelay: 60_000 } });
  const pulled = closed.start(scriptedSource(closed.blob.stored));
  await clock.during(pulled.fill(0, closed.blob.cached.size, never));
  await pulled.close();
  await clock.until(() => closed.swarm.sent === closed.blob.stored.length);
  closed.blob.close();
  // Somebody has begun meanwhile: nothing is to be done.
  const other = stage({ peers: false }, { policy: { streamDelay: 200 } });
  const filled = other.start(scriptedSource(other.blob.stored));
  await clock.during(filled.fill(0, other.blob.cached.size, never));
  other.swarm.options.peers = true;
  await clock.pass(400);
  assert.equal(other.swarm.opened, 0);
  await filled.close();
  other.blob.close();
});

test('what nobody has comes from a slow source alone too, while that is soon', async () => {
  const policy = { streamDelay: 300 };
  const { blob, start, right, swarm, bytes, clock } = stage({ peers: false }, { policy });
  const fetcher = start(slowSource(clock, blob.stored, 50, 500));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.ok(clock.now() > 1_000, 'several times the delay');
  assert.equal(swarm.opened, 0);
  assert.equal(bytes().source, blob.stored.length);
  await clock.until(() => swarm.opened === 1 && swarm.ended === 1);
  await clock.during(fetcher.close());
  blob.close();
  // It would take a minute: the swarm is asked to begin.
  const long = stage({ peers: false, rate: 1_000 }, { policy });
  const patient = long.start(slowSource(long.clock, long.blob.stored, 50, 50));
  await long.clock.during(patient.fill(0, long.blob.cached.size, never));
  long.right();
  assert.ok(long.clock.now() < 10_000, `${long.clock.now()} ms`);
  assert.ok(long.bytes().swarm > 0.8 * long.blob.stored.length);
  await long.clock.during(patient.close());
  long.blob.close();
  // Somebody begins meanwhile.
  const other = stage({ peers: false, rate: 5_000 }, { policy });
  const filled = other.start(slowSource(other.clock, other.blob.stored, 50, 500));
  const filling = filled.fill(0, other.blob.cached.size, never);
  await other.clock.pass(1_000);
  assert.equal(other.swarm.opened, 0);
  other.swarm.options.peers = true;
  await other.clock.during(filling);
  other.right();
  assert.equal(other.swarm.opened, 1);
  assert.ok(other.bytes().swarm > 0.3 * other.blob.stored.length);
  await other.clock.during(filled.close());
  other.blob.close();
});

test('closing ends a stream', async () => {
  const { blob, start, swarm, clock } = stage({ each: (_, __, signal) => stalled(signal) });
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.need(0, 1, never));
  assert.equal(swarm.opened, 1);
  await clock.during(fetcher.close());
  assert.equal(swarm.ended, 1);
  blob.close();
});

test('background requests keep to the budget, and readers do not wait for it', async () => {
  const { blob, start, right, clock } = stage({}, { budget: 8 << 20 });
  const source = scriptedSource(blob.stored);
  const fetcher = start(source);
  await clock.during(fetcher.need(0, 1, never));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  await clock.during(fetcher.close());
  blob.close();
  let now = 0;
  const budget = createBudget(1_000, { now: () => now, sleep: clock.sleep });
  assert.equal(budget.wait(), 0);
  budget.charge(3_000);
  assert.ok(Math.abs(budget.wait() - 2_001) < 2);
  now = 1_000;
  assert.ok(Math.abs(budget.wait() - 1_001) < 2);
  now = 60_000;
  assert.equal(budget.wait(), 0);
  budget.charge(1_000);
  assert.ok(budget.wait() > 0, 'no more than a second is saved up');
});

test('a limit of background fetching holds up neither readers nor what is fetched ahead of them', async () => {
  const { blob, start, made, swarm, right, clock } = stage({}, { background: 1_000, policy: { deadline: 5_000 } });
  swarm.present = false;
  made.race.background.charge(1_000_000);
  const fetcher = start(scriptedSource(blob.stored));
  const ending = new AbortController();
  const fill = fetcher.fill(0, blob.cached.size, ending.signal);
  fill.catch(() => {});
  // In order: the window ahead of the reader opens, and all of it comes though the fill may send for nothing.
  for (let at = 0; at < blob.cached.size; at += 100_000)
    await clock.during(fetcher.need(at, Math.min(100_000, blob.cached.size - at), never));
  right();
  await fill;
  assert.ok(made.race.background.wait() > 500_000, 'readers were not charged');
  await fetcher.close();
  blob.close();
});

test('background fetching keeps to its own limit', async () => {
  const { blob, start, made, swarm, right, clock } = stage({}, { background: 1 << 20 });
  swarm.present = false;
  const begun = clock.now();
  const fetcher = start(scriptedSource(blob.stored));
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  // A second's worth is saved up, and four requests of 256 KiB are owed at the most.
  const least = ((blob.stored.length - (1 << 20) - 4 * (256 << 10)) / (1 << 20)) * 1000;
  assert.ok(clock.now() - begun >= least, `${clock.now() - begun} ms, ${least} at least`);
  assert.ok(least > 100);
  await fetcher.close();
  blob.close();
  assert.equal(made.race.budget.wait(), 0);
});

test('a reader does not wait with a background request that waits for the budget', async () => {
  const { blob, start, made, swarm, clock } = stage({}, { budget: 1_000, policy: { deadline: 2_000 } });
  swarm.present = false;
  made.race.budget.charge(1_000_000);
  const fetcher = start(scriptedSource(blob.stored));
  const fill = fetcher.fill(0, blob.cached.size, never);
  fill.catch(() => {});
  await clock.pass(50);
  await clock.during(fetcher.need(0, 1, never));
  await clock.during(fetcher.need(blob.cached.chunks.offset[3], 1, never));
  await clock.during(fetcher.close());
  await assert.rejects(fill);
  blob.close();
});

test('a swarm that is not there costs no request and no stream', async () => {
  const { blob, start, swarm, right, clock } = stage();
  swarm.present = false;
  const source = scriptedSource(blob.stored, [
    ({ offset, length }) => pieces(blob.stored.subarray(offset, offset + length)),
  ]);
  const fetcher = start(source);
  await clock.during(fetcher.fill(0, blob.cached.size, never));
  right();
  assert.equal(swarm.opened, 0);
  assert.ok(source.asked[0].offset === 0, 'in the usual order');
  await clock.during(fetcher.close());
  blob.close();
});

test('readers wait for the budget only while a stream may bring what they want', async () => {
  const { blob, start, made, swarm, clock } = stage({ rate: 400, peers: undefined }, { budget: 50_000 });
  const source = scriptedSource(blob.stored);
  const fetcher = start(source);
  const { offset } = blob.cached.chunks;
  await clock.during(fetcher.need(offset[0], 1, never));
  await clock.until(() => swarm.opened === 1);
  // Far more is owed than can be paid back here.
  made.race.budget.charge(1_000_000);
  await clock.during(fetcher.need(offset[20], 1, never));
  assert.equal(source.asked.length, 1, 'the stream has brought it');
  swarm.present = false;
  const other = stage({}, { budget: 1_000 });
  other.swarm.present = false;
  const alone = scriptedSource(other.blob.stored);
  const without = other.start(alone);
  other.made.race.budget.charge(1_000_000);
  await clock.during(without.need(0, 1, never));
  assert.equal(alone.asked.length, 1, 'nobody else could');
  for (const { close } of [fetcher, without]) await close();
  for (const { close } of [blob, other.blob]) close();
});
