/**
 * Looks for inputs that a reader of untrusted bytes cannot stand. Settings are in the environment: TARGET (names, comma
 * between), TIME (seconds for each target) or RUNS (of all targets together), SEED, JOBS, KEEP=1 (what was found replaces
 * the corpus).
 */
import { fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { PROJECT } from '../fixtures.ts';
import { inputName, loadTarget, targetNames } from './corpus.ts';
import { type Figures, type Job, LAST_INPUT, type Message } from './messages.ts';

const { TARGET, TIME, RUNS, SEED, JOBS, KEEP } = process.env;
const DEFAULT_SECONDS = 10;

const seed = SEED ? Number(SEED) : Date.now() % 0x7fffffff;
const chosen = TARGET ? TARGET.split(',') : targetNames();
for (const name of chosen)
  if (!targetNames().includes(name)) {
    console.error(`There is no target ${name}: ${targetNames().join(', ')}`);
    process.exit(2);
  }
const targets = await Promise.all(chosen.map(loadTarget));
const shares = targets.reduce((sum, { share = 1 }) => sum + share, 0);
const queue: Job[] = targets.map(({ name, share = 1 }) => ({
  target: name,
  seed,
  runs: RUNS ? Math.ceil((Number(RUNS) * share) / shares) : Number.POSITIVE_INFINITY,
  time: RUNS ? Number.POSITIVE_INFINITY : Number(TIME || DEFAULT_SECONDS) * 1000,
  keep: KEEP === '1',
}));
const jobs = Number(JOBS || Math.min(availableParallelism(), queue.length));
console.log(`seed ${seed}, ${queue.length} targets, ${jobs} at once`);
console.log(row('target', 'runs', 'runs/s', 'seeds', 'found', 'ways', 'reached', 'defects'));

let defects = 0;
let runs = 0;
await Promise.all(
  Array.from({ length: jobs }, async () => {
    for (let job = queue.shift(); job; job = queue.shift()) await fuzz(job);
  }),
);
console.log(`${runs} runs, ${defects} defects`);
process.exit(defects === 0 ? 0 : 1);

function fuzz(job: Job): Promise<void> {
  return new Promise((resolve) => {
    // Whatever happens to the process, what it leaves behind goes.
    const scratch = mkdtempSync(join(tmpdir(), 'nymph-fuzz-'));
    const child = fork(new URL('./guard.ts', import.meta.url), {
      env: { ...process.env, TMPDIR: scratch },
      serialization: 'advanced',
      execArgv: ['--disable-warning=ExperimentalWarning'],
    });
    let figures: Figures = { runs: 0, seconds: 1, seeds: 0, found: 0, ways: 0, reached: 0 };
    let done = false;
    let own = 0;
    const report = (name: string, detail: string, input: Uint8Array) => {
      own++;
      console.log(`\n${job.target}: ${name}\n  ${keep(job.target, input)}\n${detail.replace(/^/gm, '  ')}\n`);
    };
    child.send(job);
    child.on('message', (message: Message) => {
      if (message.type === 'defect') report(message.name, message.detail, message.input);
      else figures = message.figures;
      done ||= message.type === 'done';
    });
    child.on('exit', (code, signal) => {
      const last = join(scratch, LAST_INPUT);
      if (signal === 'SIGTERM' || signal === 'SIGINT') console.log(`${job.target}: ended from outside`);
      else if (!done && own === 0)
        report(
          `the process ended with ${signal ?? code}, seed ${job.seed}`,
          'in native code?',
          existsSync(last) ? readFileSync(last) : Buffer.alloc(0),
        );
      const { runs: count, seconds, seeds, found, ways, reached } = figures;
      console.log(row(job.target, count, Math.round(count / seconds), seeds, found, ways, reached, own));
      rmSync(scratch, { recursive: true, force: true });
      runs += count;
      defects += own;
      resolve();
    });
  });
}

/** Puts a reproducer where tests find it. */
function keep(target: string, input: Uint8Array): string {
  const directory = join(PROJECT, 'test', 'corpus', target);
  mkdirSync(directory, { recursive: true });
  const path = join(directory, `defect-${inputName(input)}`);
  writeFileSync(path, input);
  return path;
}

function row(name: string, ...columns: (string | number)[]): string {
  return name.padEnd(20) + columns.map((column) => String(column).padStart(10)).join('');
}
