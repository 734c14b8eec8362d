/**
 * Soak: a node works for a long time while all around it fails.
 *
 *   node test/soak/main.ts [--minutes 10] [--seed 1] [--clients 3] [--json] [--log FILE]
 *
 * Images and models are mounted, read in every way, pulled, pruned and unmounted, and containers run where there is a
 * containerd; meanwhile faults are injected. Every byte that is read must be right, every failure must be explained by a
 * fault, and at the end nothing is left. The status is the verdict; `--json` prints one document, `--log` keeps the daemon's log.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { leaks, remains, removeAll } from '../chaos/remains.ts';
import { count, kindOf } from '../chaos/tally.ts';
import { type Losses, look, work } from '../chaos/work.ts';
import { cannotMount } from '../daemon.ts';
import { randomSeries } from '../manifest/read.ts';
import { injectFaults } from './faults.ts';
import { load } from './load.ts';
import { createNode, PAUSE, type SoakNode } from './node.ts';
import { emptySoak, type SoakTally, text, verdict } from './tally.ts';

const SAMPLE_MS = 5_000;

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    seed: { type: 'string', default: '1' },
    clients: { type: 'string', default: '3' },
    json: { type: 'boolean', default: false },
    log: { type: 'string' },
  },
});
const [minutes, seed, clients] = [values.minutes, values.seed, values.clients].map(Number);
const why = cannotMount();
if (why) throw new Error(`a soak cannot be had here: ${why}`);

const cleaners: (() => Promise<void>)[] = [];
const tally = emptySoak();
const say = (line: string) => console.error(`${new Date().toISOString().slice(11, 19)} ${line}`);
let left: string[] = [];
let log = '';
const begun = performance.now();
try {
  const node = await createNode({ after: (clean) => void cleaners.unshift(clean) }, seed);
  if (!node.containers) tally.unavailable.containers = 'not installed: containerd';
  const said = () => (log = node.daemon.logged('').join('\n'));
  cleaners.unshift(async () => void said());
  left = await soak(node, tally).catch((error: Error) => [`${error.message}: ${error.cause ?? error.stack}`]);
} finally {
  for (const clean of cleaners) await clean().catch((error) => console.error(error));
}
if (values.log) writeFileSync(values.log, log);
const result = verdict(tally, left, (performance.now() - begun) / 1000);
console.log(values.json ? JSON.stringify({ ...result, tally }) : text(tally, result));
process.exit(result.good ? 0 : 1);

/** @returns what is left at the end */
async function soak(node: SoakNode, tally: SoakTally): Promise<string[]> {
  const { containers } = node;
  const losses: Losses = { count: 0 };
  const series = (name: number) => ({ random: randomSeries(seed * 1000 + name) });
  await warmUp(node, tally, losses);
  const before = await remains(node);
  say(`seed ${seed}, ${minutes} minutes; ${before.descriptors} descriptors at rest`);

  const signal = AbortSignal.timeout(minutes * 60_000);
  const sampling = sample(node, tally, signal);
  const loads = Array.from({ length: clients }, (_, i) =>
    load(node, tally, { name: `s${i}`, ...series(i), signal }).catch((error: Error) =>
      tally.unexplained.push(`at the end: ${error.message}`),
    ),
  );
  const pods = containers && work(containers, tally, losses, { name: 'soak', ...series(100), signal });
  await injectFaults(node, tally, { ...series(200), signal });
  say('the faults have ended');
  node.clock?.(0);
  await node.daemon
    .supervised()
    .catch((error: Error) => tally.unexplained.push(`at the end: ${error.message}: ${error.cause ?? ''}`));
  const living = (await pods) ?? [];
  await Promise.all(loads);
  await sampling;
  for (const one of living)
    await look(one, tally, losses, [...one.image.truth.keys()]).catch((error: Error) =>
      count(tally.failures, `last look: ${kindOf(error.message)}`),
    );
  say('looking for what is left');
  if (containers) await removeAll(containers);
  return leaks(node, before);
}

/** Once through everything, so that what is opened for good is open before it is counted. */
async function warmUp(node: SoakNode, tally: SoakTally, losses: Losses): Promise<void> {
  const { client } = node.daemon;
  for (const [i, { reference }] of node.images.entries()) {
    const directory = node.daemon.place(`w${i}`);
    for (const via of ['auto', 'fuse'] as const) {
      await client.mount({ reference, directory, options: { via } });
      await client.unmount(directory, false);
    }
  }
  const { containers } = node;
  if (!containers) return;
  const [image] = containers.images;
  await containers.pods.pull(image.reference);
  const pod = await containers.pods.run('first', image.reference, PAUSE);
  await look({ pod, image, since: 0 }, tally, losses, [...image.truth.keys()]);
  await removeAll(containers);
}

async function sample({ daemon }: SoakNode, tally: SoakTally, signal: AbortSignal): Promise<void> {
  const begun = performance.now();
  for (; !signal.aborted; await sleep(SAMPLE_MS)) {
    try {
      const { pid, supervisor } = await daemon.client.health();
      tally.memory.push({
        second: Math.round((performance.now() - begun) / 1000),
        daemon: resident(pid),
        supervisor: supervisor === undefined ? 0 : resident(supervisor),
        descriptors: readdirSync(`/proc/${pid}/fd`).length,
      });
    } catch {
      // It is being restarted, or stands still.
    }
  }
}

/** MiB */
function resident(pid: number): number {
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))?.[1]) / 1024);
}
