/** Trials with all data on this machine: images in our cache against the same tree on ext4. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Status } from '../src/daemon/api.ts';
import type { Lab } from './lab.ts';
import { type LocalImage, localImage } from './local-image.ts';
import { type Nymph, startNymph } from './nymph.ts';
import { dropCaches, type Place } from './place.ts';
import { shell } from './processes.ts';
import { randomReads } from './random-reads.ts';
import type { Row, Trial } from './report.ts';

const CONTENDERS = ['ext4', 'complete', 'fuse', 'tree'] as const;
type Contender = (typeof CONTENDERS)[number];

const LABELS = {
  complete: 'blobs complete before the mount',
  fuse: 'mounted first, filled later: through our FUSE',
  tree: 'as a FUSE tree',
};

export interface LocalOptions {
  rounds: number;
  quick: boolean;
}

export interface Measure {
  name: string;
  work: string;
  text: string;
  unit: 'time' | 'throughput';
  goal: Row['goal'];
  /** Of the FUSE tree. */
  treeGoal: Row['goal'];
  /** One run. @returns seconds for `time`, anything per second for `throughput` */
  once(directory: string): Promise<number>;
}

/** Reads the large file. @param flags of dd @returns anything per second */
export async function readInOrder(directory: string, flags = ''): Promise<number> {
  return 1000 / (await shell(`dd if=${join(directory, 'big')} of=/dev/null bs=1M ${flags} 2>/dev/null`));
}

export const MEASURES: Record<string, (image: LocalImage, options: LocalOptions) => Measure[]> = {
  find: (image) => {
    const once = (directory: string) => shell(`find ${directory} -printf '%s %m %T@\\n'`);
    const text = `**find**: \`find -printf '%s %m %T@\\n'\` over ${image.files.toLocaleString('en')} small files. `;
    return [
      {
        name: 'find, cold',
        work: '`find -printf`, cold',
        text: `${text}Cold: page cache, names and inodes dropped. Warm: the third run in a row.`,
        unit: 'time',
        goal: { most: 1 },
        treeGoal: { most: 1.5 },
        once,
      },
      {
        name: 'find, warm',
        work: '`find -printf`, warm',
        text: '',
        unit: 'time',
        goal: { most: 1 },
        treeGoal: { most: 1.05 },
        once: async (directory) => {
          await once(directory);
          await once(directory);
          return once(directory);
        },
      },
    ];
  },
  tar: (image) => [
    {
      name: 'tar',
      work: '`tar` of everything, cold',
      text: `**tar**: \`tar -cf - . | cat\` of the ${image.files.toLocaleString('en')} files and the large one, page cache dropped, data in our cache.`,
      unit: 'time',
      goal: { most: 1 },
      treeGoal: { most: 1.2 },
      once: (directory) => shell(`tar -C ${directory} -cf - . | cat`),
    },
  ],
  sequential: (image) => [
    {
      name: 'sequential',
      work: 'large file in order, cold',
      text: `**sequential**: \`dd bs=1M\` of one file of ${image.bigBytes >> 20} MiB that does not compress, page cache dropped, data in our cache.`,
      unit: 'throughput',
      goal: { least: 1 },
      treeGoal: { least: 1 },
      once: readInOrder,
    },
  ],
  random: (_, { quick }) => [
    {
      name: 'random',
      work: 'random 4 KiB reads, cold',
      text: '**random**: one thread, buffered reads of 4 KiB at random places of the large file for some seconds (fio, psync; without fio, a loop of our own), page cache dropped before.',
      unit: 'throughput',
      goal: { least: 0.6 },
      treeGoal: { least: 0.6 },
      once: (directory) => randomReads(join(directory, 'big'), quick ? 2 : 4),
    },
  ],
};

export const LOCAL_TRIALS = Object.keys(MEASURES);

/** @param names of the trials to run, some of LOCAL_TRIALS */
export async function localTrials(
  lab: Lab,
  place: Place,
  names: readonly string[],
  options: LocalOptions,
  say: (line: string) => void,
): Promise<Trial[]> {
  say('making the tree and the image');
  const image = await localImage(place.kept, options.quick);
  say('filling the cache');
  const nymph = await startNymph(lab, join(place.scratch, 'local'));
  const directories = await mountAll(nymph, image, place.scratch);
  const trials: Trial[] = [];
  for (const name of names) {
    const measures = MEASURES[name](image, options);
    const rows: Row[] = [];
    for (const measure of measures) {
      say(measure.name);
      rows.push(...(await compare(measure, directories, options.rounds, say)));
    }
    trials.push({ name, text: measures[0].text, rows });
  }
  await nymph.stop();
  return trials;
}

/** The image three times: mounted while nothing of it is here, mounted when all of it is, and as a FUSE tree. */
async function mountAll(nymph: Nymph, image: LocalImage, scratch: string): Promise<Record<Contender, string>> {
  const directories = {
    ext4: image.tree,
    fuse: join(scratch, 'fuse'),
    complete: join(scratch, 'complete'),
    tree: join(scratch, 'tree'),
  };
  const reference = `oci:${image.layout}:bench`;
  await nymph.command('mount', '--prefetch', 'none', reference, directories.fuse);
  await nymph.command('pull', reference);
  await mkdir(directories.complete);
  await nymph.command('mount', reference, directories.complete);
  await nymph.command('mount', '--via', 'fuse', reference, directories.tree);
  for (const [name, isServed] of [
    ['complete', false],
    ['fuse', true],
    ['tree', true],
  ] as const) {
    await dropCaches();
    const before = await hits(nymph);
    await shell(`head -c 1000000 ${join(directories[name], 'big')}`);
    if ((await hits(nymph)) > before !== isServed) throw new Error(`the mount "${name}" does not read as it should`);
  }
  return directories;
}

async function hits(nymph: Nymph): Promise<number> {
  return (JSON.parse(await nymph.command('status', '--json')) as Status).fuse.hits;
}

/** All contenders in turn, in another order each round. @returns what was measured, by contender and round */
export async function takeTurns<Name extends string>(
  measure: Pick<Measure, 'once'>,
  contenders: readonly Name[],
  directories: Record<Name, string>,
  rounds: number,
  say: (line: string) => void,
): Promise<Record<Name, number[]>> {
  const values = Object.fromEntries(contenders.map((name) => [name, [] as number[]])) as Record<Name, number[]>;
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length; i++) {
      const contender = contenders[(i + round) % contenders.length];
      await dropCaches();
      values[contender].push(await measure.once(directories[contender]));
    }
    say(
      `  round ${round + 1}: ${contenders.map((name) => `${name} ${values[name][round].toPrecision(4)}`).join(', ')}`,
    );
  }
  return values;
}

async function compare(
  measure: Measure,
  directories: Record<Contender, string>,
  rounds: number,
  say: (line: string) => void,
): Promise<Row[]> {
  const values = await takeTurns(measure, CONTENDERS, directories, rounds, say);
  return (['complete', 'fuse', 'tree'] as const).map((name) => ({
    work: `${measure.work}; ${LABELS[name]}`,
    against: 'ext4',
    unit: measure.unit,
    ratios: values[name].map((value, round) => value / values.ext4[round]),
    goal: name === 'tree' ? measure.treeGoal : measure.goal,
  }));
}

/** Programs that trials start. */
export async function requirePrograms(programs: readonly string[]): Promise<void> {
  for (const program of programs) {
    const paths = (process.env.PATH ?? '').split(':');
    if (!paths.some((directory) => existsSync(join(directory, program))))
      throw new Error(`${program} is not installed: run \`make system-deps\``);
  }
}
