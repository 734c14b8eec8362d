/** The thread that looks for defects in one target. */
import { writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { keepFound, keptInputs, loadTarget } from './corpus.ts';
import { createCoverage } from './coverage.ts';
import { type Job, LAST_INPUT, LENGTH, type Message, RUNS, type Shared } from './messages.ts';
import { type SearchResult, search } from './search.ts';
import { judge } from './target.ts';

/** Inputs that are kept of one target. */
const MOST_KEPT = 150;

const { job, shared } = workerData as { job: Job; shared: Shared };
const send = (message: Message) => parentPort!.postMessage(message);
const start = performance.now();
const target = await loadTarget(job.target);
const lastInput = join(tmpdir(), LAST_INPUT);
const coverage = createCoverage();
const seeds = [...(await target.seeds()), ...keptInputs(target.name).map(({ bytes }) => bytes)];

const figures = ({ runs, corpus, ways }: Readonly<SearchResult>) => ({
  ...{ runs, ways, seeds: seeds.length, found: corpus.length, reached: coverage.size() },
  seconds: (performance.now() - start) / 1000,
});

const result = await search(target, seeds, {
  ...{ seed: job.seed, runs: job.runs, time: job.time, coverage },
  before(input) {
    shared.input.set(input);
    shared.words[LENGTH] = input.length;
    Atomics.add(shared.words, RUNS, 1);
    if (target.native) writeFileSync(lastInput, input);
  },
  progress: (now) => send({ type: 'progress', figures: figures(now) }),
});
for (const { name, input, error } of result.defects)
  send({ type: 'defect', name, input, detail: error instanceof Error ? (error.stack ?? '') : String(error) });
if (job.keep && result.defects.length === 0) keepFound(target.name, await distil(result.corpus));
send({ type: 'done', figures: figures(result) });

/** Of inputs those that are needed to reach what all of them reach, small ones first. */
async function distil(inputs: readonly Uint8Array[]): Promise<Uint8Array[]> {
  const reached = createCoverage();
  const ways = new Set<string>();
  const kept: Uint8Array[] = [];
  for (const input of inputs.toSorted((a, b) => a.length - b.length)) {
    const way = await judge(target, input);
    const isNew = reached.isNew();
    if (isNew || !ways.has(way)) kept.push(input);
    ways.add(way);
    if (kept.length === MOST_KEPT) break;
  }
  return kept;
}
