import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createClock } from '../../bench/swarm/clock.ts';
import { createSharedLink } from '../../bench/swarm/shared-link.ts';
import { type Setting, simulate } from '../../bench/swarm/simulate.ts';

test('a clock runs events in order, and not those that were withdrawn', () => {
  const clock = createClock();
  const seen: number[] = [];
  const times = Array.from({ length: 500 }, (_, i) => (i * 7919) % 500);
  const withdraw = times.map((time) => clock.at(time, () => seen.push(time)));
  for (const i of [3, 100, 499]) withdraw[i]();
  clock.run(400);
  const gone = [3, 100, 499].map((i) => times[i]);
  assert.deepEqual(
    seen,
    times.filter((time) => time <= 400 && !gone.includes(time)).sort((a, b) => a - b),
  );
});

test('flows share a link, and no byte is lost', () => {
  const clock = createClock();
  const link = createSharedLink(clock, 100, 60);
  const ends: [string, number][] = [];
  const note = (name: string) => () => ends.push([name, clock.now]);
  link.send(600, note('alone, then shared'));
  clock.at(5, () => link.send(1000, note('shared, then alone')));
  let cancel: () => void;
  clock.at(5, () => (cancel = link.send(1e9, note('never'))));
  clock.at(8, () => cancel());
  clock.run(1e6);
  // 5 ms at 60; 3 ms at 33.3; then 50 each: 200 more take 4 ms; the rest at 60.
  assert.deepEqual(
    ends.map(([name, time]) => [name, Math.round(time * 10) / 10]),
    [
      ['alone, then shared', 12],
      ['shared, then alone', 23.7],
    ],
  );
  assert.equal(Math.round(link.sent()), 600 + 1000 + 100);
});

const SETTING: Setting = {
  ...{ nodes: 1, mode: 'registry', behaviour: { first: [50], gap: [16] } },
  ...{ size: 46e6, piece: 4 << 20, faults: 24, faultBytes: 4.8e6, computing: 240 },
  ...{ roundTrip: 10, registryRate: 1.25e6, nodeRate: 125e3 },
};

test('one node from the registry: what one can reckon by hand', () => {
  const { originBytes, start } = simulate(SETTING);
  assert.equal(Math.round(originBytes), 4.8e6);
  // 24 × (10 ms of computing, a round trip, 200 kB at 125 kB/ms).
  assert.equal(Math.round(start.p50), Math.round(24 * (10 + 10 + 1.6)));
});

test('from Dragonfly alone the registry sends the image once, however many nodes there are', () => {
  for (const nodes of [1, 50, 400]) {
    const { originBytes, start } = simulate({ ...SETTING, nodes, mode: 'dragonfly' });
    assert.equal(Math.round(originBytes), 11 * (4 << 20));
    assert.ok(start.max < 60_000, 'all of them start');
  }
});

test('the same seed gives the same outcome', () => {
  const setting: Setting = { ...SETTING, nodes: 40, mode: 'race', budget: 200, seed: 5 };
  assert.deepEqual(simulate(setting), simulate(setting));
});
