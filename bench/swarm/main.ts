/**
 * `node bench/swarm/main.ts`: 1 to 10,000 nodes start one image at once, from the registry alone, from Dragonfly alone, and by
 * the race. A table on standard output, two drawings in bench/results/. What is measured and what is modelled: simulate.ts.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { recordedBehaviour } from './behaviour.ts';
import { chart, type Line } from './chart.ts';
import { type Mode, type Setting, simulate } from './simulate.ts';

const RESULTS = fileURLToPath(new URL('../results', import.meta.url));
const NODES = [1, 3, 10, 30, 100, 300, 1_000, 3_000, 10_000];
const CONTENDERS: { name: string; mode: Mode; budget?: number }[] = [
  { name: 'registry only', mode: 'registry' },
  { name: 'Dragonfly only', mode: 'dragonfly' },
  { name: 'race', mode: 'race' },
  { name: 'race, 100 kB/s a node', mode: 'race', budget: 100 },
];

const behaviour = recordedBehaviour();
/** A cold start of Python in a Debian image, as `make bench` has it: 4.9 MB of a blob of 46 MB in 24 requests. */
const IMAGE = { size: 46e6, piece: 4 << 20, faults: 24, faultBytes: 4.9e6, computing: 150 };
const NETWORK = { roundTrip: 10, registryRate: 1.25e6, nodeRate: 125e3 };

const origin: Line[] = [];
const start: Line[] = [];
const rows: string[] = [];
for (const { name, mode, budget } of CONTENDERS) {
  const bytes: Line = { name, points: [] };
  const time: Line = { name, points: [] };
  for (const nodes of NODES) {
    const setting: Setting = { ...IMAGE, ...NETWORK, behaviour, nodes, mode, budget };
    const outcome = simulate(setting);
    bytes.points.push({ x: nodes, y: outcome.originBytes });
    time.points.push({ x: nodes, y: outcome.start.p99 });
    const { p50, p99 } = outcome.start;
    const cells = [
      nodes.toLocaleString('en-US'),
      name,
      (outcome.originBytes / 1e6).toFixed(0),
      (p50 / 1000).toFixed(2),
      (p99 / 1000).toFixed(2),
    ];
    rows.push(`| ${cells.join(' | ')} |`);
  }
  origin.push(bytes);
  start.push(time);
}
console.log('| nodes | from | MB of the registry | start, median s | 99 % s |\n|---|---|---|---|---|');
console.log(rows.join('\n'));
console.log(
  `\nA blob of 46 MB in pieces of 4 MiB; a start reads 4.9 MB of it in 24 requests, one after another, and computes 150 ms. The registry sends 10 Gbit/s in all, each node 1 Gbit/s, a round trip takes 10 ms; one seed. Pieces of dfdaemon: recorded, ${behaviour.first.length} streams. Network, choice of parents and faults are a model.`,
);
mkdirSync(RESULTS, { recursive: true });
const size = (value: number) => (value >= 1e9 ? `${value / 1e9} GB` : `${value / 1e6} MB`);
writeFileSync(
  `${RESULTS}/swarm-origin.svg`,
  chart('Bytes that the registry sends', 'nodes that start at once', origin, size),
);
writeFileSync(
  `${RESULTS}/swarm-start.svg`,
  chart('Start, 99th percentile', 'nodes that start at once', start, (ms) => `${ms / 1000} s`),
);
