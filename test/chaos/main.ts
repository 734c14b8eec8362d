/**
 * Chaos: clients of a real containerd pull, run and remove lazily served images while the daemon, its supervisor,
 * containerd and the registry are killed and stopped, at random.
 *
 *   node test/chaos/main.ts [--minutes 10] [--seed 1] [--clients 3]
 *
 * Every checksum that a container prints must be right; what fails must say why; no container may lose a read unless daemon
 * and supervisor died in the same instant; and at the end nothing is left. The status is the verdict.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { noContainerd } from '../containerd.ts';
import { cannotMount } from '../daemon.ts';
import { randomSeries } from '../manifest/read.ts';
import { killThings } from './kills.ts';
import { leaks, remains, removeAll } from './remains.ts';
import { count, emptyTally, kindOf } from './tally.ts';
import { look, work } from './work.ts';
import { createWorld, PAUSE } from './world.ts';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    clients: { type: 'string', default: '3' },
  },
});
const [minutes, seed, clients] = [values.minutes, values.seed, values.clients].map(Number);
const why = cannotMount() || noContainerd();
if (why) throw new Error(`chaos cannot be had here: ${why}`);

const cleaners: (() => Promise<void>)[] = [];
const tally = emptyTally();
const losses = { count: 0 };
let left: string[] = [];
let forgotten = 0;
const say = (text: string) => console.log(`${new Date().toISOString().slice(11, 19)} ${text}`);
try {
  const world = await createWorld({ after: (clean) => void cleaners.unshift(clean) }, seed);
  await world.healthy();
  // Once through everything, so that what is opened for good is open before it is counted.
  for (const image of world.images.slice(0, 1)) {
    await world.pods.pull(image.reference);
    const pod = await world.pods.run('first', image.reference, PAUSE);
    await look({ pod, image, since: 0 }, tally, losses, [...image.truth.keys()]);
  }
  await removeAll(world);
  await sleep(5_000);
  const before = await remains(world);
  say(`seed ${seed}, ${minutes} minutes, ${clients} clients; ${before.descriptors} descriptors at rest`);

  const end = AbortSignal.timeout(minutes * 60_000);
  const working = Array.from({ length: clients }, (_, i) =>
    work(world, tally, losses, { name: `c${i}`, random: randomSeries(seed * 100 + i), signal: end }),
  );
  const killing = killThings(world, tally, losses, { random: randomSeries(seed), signal: end });
  const living = (await Promise.all(working)).flat();
  await killing;
  say('the kills have ended');
  await world.healthy();
  for (const one of living)
    await look(one, tally, losses, [...one.image.truth.keys()]).catch((error: Error) =>
      count(tally.failures, `last look: ${kindOf(error.message)}`),
    );
  forgotten = await removeAll(world);
  left = await leaks(world, before);
  const killed = tally.kills['kill containerd'] ?? 0;
  if (forgotten > killed) left.push(`${forgotten} shims, but containerd was killed ${killed} times`);
} finally {
  for (const clean of cleaners) await clean().catch((error) => console.error(error));
}

const sum = (of: Record<string, number>) => Object.values(of).reduce((all, one) => all + one, 0);
const list = (of: Record<string, number>) => {
  for (const [name, times] of Object.entries(of).sort(([, a], [, b]) => b - a)) console.log(`  ${times} × ${name}`);
};
console.log(`failed with a reason: ${sum(tally.failures)}`);
list(tally.failures);
console.log(`operations: ${sum(tally.operations)}`);
list(tally.operations);
console.log(`kills: ${sum(tally.kills)}`);
list(tally.kills);
console.log(`containers that a killed containerd forgot: ${forgotten}`);
console.log(`outputs checked: ${tally.outputs}`);
for (const name of ['wrong', 'unexplained', 'lost'] as const)
  console.log([`${name}: ${tally[name].length}`, ...tally[name].slice(0, 20)].join('\n  '));
console.log([`leaks: ${left.length}`, ...left.slice(0, 40)].join('\n  '));
process.exit(tally.wrong.length + tally.unexplained.length + tally.lost.length + left.length === 0 ? 0 : 1);
