/**
 * `make bench`: ratios of paired runs against ext4, curl and a full download, as Markdown on standard output and as JSON
 * in bench/results/. Root only. What each row means: docs/benchmarks.md.
 *
 *   node bench/main.ts [--only NAME]… [--rounds N] [--quick]
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { buildTrial } from './build.ts';
import { calls } from './calls.ts';
import { containers } from './container-trials.ts';
import { drivers } from './drivers.ts';
import { inLab } from './lab.ts';
import { LOCAL_TRIALS, localTrials, requirePrograms } from './local.ts';
import { models } from './models.ts';
import { findPlace } from './place.ts';
import { race } from './race.ts';
import { raceFaults } from './race-faults.ts';
import { fetchAll, firstOutput } from './remote-trials.ts';
import { isMet, markdown, median, type Trial } from './report.ts';
import { missingRequirements } from './requirements.ts';
import { zranReads } from './zran.ts';

/** These need a real Dragonfly, and run only if they are named. */
const EXTRA = ['race', 'race-faults'];
const NAMES = [
  ...LOCAL_TRIALS,
  'drivers',
  'zran',
  'build',
  'first-output',
  'fetch-all',
  'models',
  'containers',
  'calls',
];
const RESULTS = join(import.meta.dirname, 'results');

const say = (line: string): void => console.error(line);

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true, default: NAMES },
      rounds: { type: 'string' },
      quick: { type: 'boolean', default: false },
      cell: { type: 'string', multiple: true },
    },
  });
  const rounds = Number(values.rounds ?? (values.quick ? 1 : 3));
  const unknown = values.only.filter((name) => ![...NAMES, ...EXTRA].includes(name));
  if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1)
    throw new Error(`usage: main.ts [--only ${NAMES.join('|')}]… [--rounds N] [--quick]`);
  const missing = missingRequirements();
  if (missing.length > 0) throw new Error(`The measurements cannot run here.\n  ${missing.join('\n  ')}`);
  await requirePrograms(['find', 'tar', 'dd', 'gzip', 'curl', 'chroot', 'zstd']);

  const home = process.env.NYMPH_BENCH_DIR ?? '/var/tmp/nymph-bench';
  mkdirSync(home, { recursive: true });
  const options = { rounds, quick: values.quick };
  const { trials, machine } = await inLab(home, 'run', async (lab) => {
    const place = await findPlace(lab, home);
    const wanted = (name: string) => values.only.includes(name);
    const done: Trial[] = [];
    const local = LOCAL_TRIALS.filter(wanted);
    if (local.length > 0) done.push(...(await localTrials(lab, place, local, options, say)));
    if (wanted('drivers')) done.push(await drivers(lab, place, options, say));
    if (wanted('zran')) done.push(await zranReads(lab, place, options, say));
    if (wanted('build')) done.push(await buildTrial(lab, place, options, say));
    if (wanted('first-output')) done.push(await firstOutput(lab, place, options, say));
    if (wanted('fetch-all')) done.push(await fetchAll(lab, place, options, say));
    if (wanted('race')) done.push(await race(lab, place, { rounds, cells: values.cell }, say));
    if (wanted('race-faults')) done.push(await raceFaults(lab, place, { rounds, cells: values.cell }, say));
    if (wanted('models')) done.push(await models(lab, place, options, say));
    if (wanted('containers')) done.push(await containers(lab, place, options, say));
    if (wanted('calls')) done.push(await calls(lab, place, options, say));
    return { trials: done, machine: place.machine };
  });

  const date = new Date().toISOString();
  console.log(`## ${date.slice(0, 10)}, ${rounds} rounds${values.quick ? ', quick: too small to judge' : ''}\n`);
  console.log(markdown(trials, machine));
  mkdirSync(RESULTS, { recursive: true });
  const rows = trials.flatMap(({ name, rows: list }) =>
    list.map((row) => ({ trial: name, ...row, median: median(row.ratios), met: isMet(row) })),
  );
  const file = join(RESULTS, `${date.replaceAll(':', '')}.json`);
  writeFileSync(file, `${JSON.stringify({ date, rounds, quick: values.quick, machine, rows }, null, 2)}\n`);
  say(`\n${file}`);
}

main().catch((error: Error) => {
  console.error(error.message);
  process.exitCode = 1;
});
