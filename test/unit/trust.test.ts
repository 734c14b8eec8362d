import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createTrust } from '../../src/fetch/trust.ts';

test('a swarm that lies rests for a minute, longer each time up to an hour, and less again when it is right', () => {
  let now = 0;
  const trust = createTrust({ now: () => now });
  const rest = () => {
    trust.lied();
    const from = now;
    while (trust.isResting) now += 1_000;
    return (now - from) / 60_000;
  };
  assert.equal(trust.isResting, false);
  assert.deepEqual(Array.from({ length: 8 }, rest), [1, 2, 4, 8, 16, 32, 64, 64]);
  for (let i = 0; i < 5; i++) trust.kept();
  assert.equal(rest(), 2);
  trust.lied();
  trust.lied();
  assert.equal(rest(), 4, 'streams that were open together are one lie');
});
