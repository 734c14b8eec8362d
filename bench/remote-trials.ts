/** Trials with nothing on this machine yet: lazy start against a full download, and fetching all against curl. */
import { cp, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lab } from './lab.ts';
import { layersOf } from './layout.ts';
import { localImage } from './local-image.ts';
import { type Nymph, startNymph } from './nymph.ts';
import { freshExt4, type Place } from './place.ts';
import { run, shell } from './processes.ts';
import { type ProgramImage, programImage } from './program-image.ts';
import { type Remote, startRemote, useDaemon } from './remote.ts';
import type { Row, Trial } from './report.ts';

/** Has a daemon take chunks unseen. */
const UNVERIFIED = new URL('unverified.ts', import.meta.url).href;

const STORED = (url: string, directory: string): string =>
  `curl -sSf -o ${directory}.tar.gz ${url} && tar -xzf ${directory}.tar.gz -C ${directory}`;
const PIPED = (url: string, directory: string): string => `curl -sSf ${url} | tar -xz -C ${directory}`;

const MORE_STARTS = [
  'the same, once a start was traced elsewhere',
  'the same, an image that lists what the program reads',
];

export interface RemoteOptions {
  rounds: number;
  quick: boolean;
}

interface Start {
  /** ms to the program's first byte. */
  time: number;
  bytes: number;
}

/** `nymph mount` and a program, against a download of the whole tree and the same program. */
export async function firstOutput(
  lab: Lab,
  place: Place,
  { rounds }: RemoteOptions,
  say: (line: string) => void,
): Promise<Trial> {
  say('making the image with a program');
  const image = await programImage(lab, place);
  const traced = join(place.scratch, 'traced-layout');
  await cp(image.layout, traced, { recursive: true });
  const remote = await startRemote(lab, { program: image.layout, traced });
  const root = await freshExt4(lab, place);
  const lazy: Start[] = [];
  const learned: Start[] = [];
  const listed: Start[] = [];
  const stored: Start[] = [];
  const piped: Start[] = [];
  await lazily(lab, place, remote, image, 'traced:nydus', 'learn', async (nymph) => {
    await nymph.command('trace', '--push', `${remote.host}/traced:nydus`);
  });
  for (let round = 0; round < rounds; round++) {
    const contenders = [
      async () => lazy.push(await lazily(lab, place, remote, image, 'program:nydus', `plain${round}`)),
      async () => learned.push(await lazily(lab, place, remote, image, 'traced:nydus', `traced${round}`)),
      async () => listed.push(await lazily(lab, place, remote, image, 'program:listed', `listed${round}`)),
      async () => stored.push(await byDownload(root, remote, image, `stored${round}`, STORED)),
      async () => piped.push(await byDownload(root, remote, image, `piped${round}`, PIPED)),
    ];
    if (round % 2 === 1) contenders.reverse();
    for (const contender of contenders) await contender();
    const text = ({ time, bytes }: Start) => `${time.toFixed(0)} ms, ${(bytes / 1e6).toFixed(1)} MB`;
    say(
      `  round ${round + 1}: lazy ${text(lazy[round])}; traced ${text(learned[round])}; listed ${text(listed[round])}; ` +
        `download, then unpack ${text(stored[round])}; unpack meanwhile ${text(piped[round])}`,
    );
  }
  const names = ['first output from a registry 10 ms away', ...MORE_STARTS];
  const starts = [lazy, learned, listed];
  const sooner = (against: string, full: Start[]): Row[] =>
    starts.map((start, which) => ({
      work: names[which],
      against,
      unit: 'sooner',
      ratios: start.map(({ time }, i) => full[i].time / time),
      goal: { least: 4 },
    }));
  const bytes = starts.map(
    (start, which): Row => ({
      work: ['bytes until the first output', ...MORE_STARTS][which],
      against: 'download',
      unit: 'bytes',
      ratios: start.map((each, i) => each.bytes / stored[i].bytes),
      goal: { most: 0.12 },
    }),
  );
  return {
    name: 'first-output',
    text:
      `**first output**: the image is ${image.text}, the program \`${image.program.join(' ')}\` in a chroot. Ours: from the start of ` +
      '`nymph mount`, with a daemon that has mounted another image of that registry before, and an empty cache, to the first byte of output. Against it: `curl` of one tar+gzip ' +
      'layer of the same tree into a file, then `tar -xz`, then the same program, as image pullers do; and the same with `tar` unpacking meanwhile. Traced: the same image, after a start of it on another node was traced and the trace pushed. The image with a list was made by `nymph build --prefetch`, with the files whose access time the program changes. It unpacks into a new ext4 on a loop device, which writes many files the fastest. Both come through a proxy with a round trip of 10 ms and 1 Gbit/s, which counts the bytes.',
    rows: [...sooner('download, then unpack', stored), ...sooner('unpacking meanwhile', piped), ...bytes],
  };
}

async function lazily(
  lab: Lab,
  place: Place,
  remote: Remote,
  image: ProgramImage,
  name: string,
  run: string,
  after: (nymph: Nymph) => Promise<void> = async () => {},
): Promise<Start> {
  const home = join(place.scratch, run);
  const directory = join(place.scratch, `${run}.mnt`);
  const nymph = await startNymph(lab, home);
  await useDaemon(nymph, remote, directory);
  const start = await measured(remote, image, directory, async () => {
    await nymph.command('mount', `${remote.host}/${name}`, directory);
  });
  await after(nymph);
  await nymph.command('umount', directory);
  await nymph.stop();
  return start;
}

async function byDownload(
  root: string,
  remote: Remote,
  image: ProgramImage,
  name: string,
  bring: (url: string, directory: string) => string,
): Promise<Start> {
  const directory = join(root, name);
  await mkdir(directory);
  const start = await measured(remote, image, directory, async () => {
    await shell(bring(`http://${remote.host}/v2/program/blobs/${image.archive}`, directory));
  });
  return start;
}

/** From the start of `bring` to the first byte of the program, which must say what it should. */
async function measured(
  remote: Remote,
  image: ProgramImage,
  directory: string,
  bring: () => Promise<void>,
): Promise<Start> {
  await settled();
  const before = await remote.received();
  const begun = performance.now();
  await bring();
  let time = Number.NaN;
  let received = Promise.resolve(0);
  const { out } = await run('env', ['LC_ALL=C', 'chroot', directory, ...image.program], {
    onFirstByte: () => {
      time = performance.now() - begun;
      received = remote.received();
    },
  });
  if (out !== image.says) throw new Error(`the program said ${JSON.stringify(out)}`);
  return { time, bytes: (await received) - before };
}

/** `nymph pull` against curl of the same blobs. */
export async function fetchAll(
  lab: Lab,
  place: Place,
  { rounds, quick }: RemoteOptions,
  say: (line: string) => void,
): Promise<Trial> {
  const program = await programImage(lab, place);
  const local = await localImage(place.kept, quick);
  const remote = await startRemote(lab, { program: program.layout, local: local.layout });
  const rows = [];
  for (const [name, tag, layout] of [
    ['program', 'nydus', program.layout],
    ['local', 'bench', local.layout],
  ] as const) {
    const layers = await layersOf(layout, tag);
    const megabytes = layers.reduce((sum, layer) => sum + layer.size, 0) / 1e6;
    say(`fetching all: ${megabytes.toFixed(0)} MB`);
    const ratios: number[] = [];
    const verified: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const urls = layers.map(({ digest }) => `http://${remote.host}/v2/${name}/blobs/${digest}`);
      const pull = () => pulled(lab, place, remote, `${name}:${tag}`, `${name}${round}`);
      const curl = () => curled(place, urls);
      let [ours, theirs] = [0, 0];
      if (round % 2 === 0) [ours, theirs] = [await pull(), await curl()];
      else [theirs, ours] = [await curl(), await pull()];
      const blind = await pulled(lab, place, remote, `${name}:${tag}`, `${name}${round}u`, UNVERIFIED);
      say(
        `  round ${round + 1}: nymph pull ${ours.toFixed(0)} ms, curl ${theirs.toFixed(0)} ms, unverified ${blind.toFixed(0)} ms`,
      );
      ratios.push(theirs / ours);
      verified.push(blind / ours);
    }
    rows.push({
      work: `fetching all of an image of ${megabytes.toFixed(0)} MB`,
      against: '`curl` of its blobs',
      unit: 'throughput',
      ratios,
      goal: { least: 0.9 },
    });
    rows.push({
      work: `the same, ${megabytes.toFixed(0)} MB`,
      against: 'without comparing digests',
      unit: 'throughput',
      ratios: verified,
      goal: { least: 0.9 },
    });
  }
  return {
    name: 'fetch-all',
    text:
      '**fetching all**: `nymph pull` into an empty cache, from its start to its end: fetched, decoded, verified, written. Against it: ' +
      '`curl` of the same blobs into files, one after another and up to 3 at once; the better counts. Also against a daemon whose comparison of digests the bench takes out. Over the same path of 10 ms and 1 Gbit/s.',
    rows,
  };
}

async function pulled(
  lab: Lab,
  place: Place,
  remote: Remote,
  reference: string,
  name: string,
  preload?: string,
): Promise<number> {
  const home = join(place.scratch, `pull-${name}`);
  const nymph = await startNymph(lab, home, { preload });
  await useDaemon(nymph, remote, `${home}.mnt`);
  await settled();
  const begun = performance.now();
  await nymph.command('pull', `${remote.host}/${reference}`);
  const time = performance.now() - begun;
  await nymph.stop();
  await rm(home, { recursive: true });
  return time;
}

async function curled(place: Place, urls: string[]): Promise<number> {
  const home = join(place.scratch, 'curl');
  const times: number[] = [];
  for (const options of [[], ['--parallel', '--parallel-immediate', '--parallel-max', '3']]) {
    await mkdir(home);
    await settled();
    const files = urls.flatMap((url, i) => ['-o', join(home, String(i)), url]);
    times.push((await run('curl', ['-sSf', ...options, ...files])).total);
    await rm(home, { recursive: true });
  }
  return Math.min(...times);
}

/** What the run before wrote is on the disk: it must not slow down the next. The page cache is left as it is. */
async function settled(): Promise<void> {
  await run('sync', []);
}
