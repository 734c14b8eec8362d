/** Trials through a real containerd: a container from nothing, and one from an image that is here. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { proxyPlugin, testContainerd } from '../test/containerd.ts';
import { type Lab, unmountBelow } from './lab.ts';
import { digestOf } from './layout.ts';
import { type Nymph, startNymph } from './nymph.ts';
import { dropCaches, type Place } from './place.ts';
import { run } from './processes.ts';
import { type ProgramImage, programImage } from './program-image.ts';
import { type Remote, startRemote, useDaemon } from './remote.ts';
import { median, type Row, type Trial } from './report.ts';

export interface ContainerOptions {
  rounds: number;
  quick: boolean;
}

/** Names of the image in the registry, by snapshotter. `nydus` is what nerdctl up to 2.2 takes for lazy. */
const TAGS = { nydus: 'nydus', overlayfs: 'plain' } as const;
type Snapshotter = keyof typeof TAGS;

/** What is run: a repository's image, by a snapshotter. `traced`: a start of it was traced and the trace pushed. */
interface Contender {
  repository: 'program' | 'traced';
  snapshotter: Snapshotter;
}
const CONTENDERS = {
  nydus: { repository: 'program', snapshotter: 'nydus' },
  traced: { repository: 'traced', snapshotter: 'nydus' },
  overlayfs: { repository: 'program', snapshotter: 'overlayfs' },
} as const satisfies Record<string, Contender>;
type ContenderName = keyof typeof CONTENDERS;

interface Started {
  /** ms from the command's start to its end. */
  time: number;
  bytes: number;
}

interface Surroundings {
  lab: Lab;
  place: Place;
  remote: Remote;
  image: ProgramImage;
}

/** Pairs of containers in one round, where one differs from the next by more than the contenders do. */
const PAIRS = 10;

/** `nerdctl run` with nothing here, and again. */
export async function containers(
  lab: Lab,
  place: Place,
  { rounds, quick }: ContainerOptions,
  say: (line: string) => void,
): Promise<Trial> {
  if (
    spawnSync('nerdctl', ['--version']).error !== undefined ||
    spawnSync('containerd', ['--version']).error !== undefined
  )
    throw new Error('The trial with containers needs nerdctl, containerd and runc on the PATH.');
  const image = await programImage(lab, place);
  const layout = await withPlainImage(image, join(place.scratch, 'layout'));
  const traced = join(place.scratch, 'traced-layout');
  await cp(layout, traced, { recursive: true });
  const remote = await startRemote(lab, { program: layout, traced });
  const surroundings = { lab, place, remote, image };
  await fromNothing(surroundings, CONTENDERS.traced, 'learn', async (nymph) => {
    await nymph.command('trace', '--push', await digestOf(layout, TAGS.nydus));
  });
  const cold: Record<ContenderName, Started[]> = { nydus: [], traced: [], overlayfs: [] };
  const here: number[] = [];
  const names = Object.keys(CONTENDERS) as ContenderName[];
  for (let round = 0; round < rounds; round++) {
    for (const name of round % 2 === 0 ? names : names.toReversed())
      cold[name].push(await fromNothing(surroundings, CONTENDERS[name], `c${round}${name}`));
    here.push(await imageHere(surroundings, `h${round}`, quick ? 2 : PAIRS));
    const text = names
      .map(
        (name) => `${name} ${cold[name][round].time.toFixed(0)} ms, ${(cold[name][round].bytes / 1e6).toFixed(2)} MB`,
      )
      .join('; ');
    say(`  round ${round + 1}: cold ${text}; image here ${here[round].toFixed(2)} × overlayfs`);
  }
  const ratios = (pick: (started: Started) => number, name: ContenderName = 'nydus') =>
    cold[name].map((started, i) => pick(started) / pick(cold.overlayfs[i]));
  const against = 'overlayfs, the ordinary image';
  const rows: Row[] = [
    {
      work: '`nerdctl run`, nothing here',
      against,
      unit: 'time',
      ratios: ratios(({ time }) => time),
      goal: { most: 0.3 },
    },
    {
      work: 'the same, once a start was traced elsewhere',
      against,
      unit: 'time',
      ratios: ratios(({ time }) => time, 'traced'),
      goal: { most: 0.3 },
    },
    {
      work: 'bytes until its end',
      against,
      unit: 'bytes',
      ratios: ratios(({ bytes }) => bytes),
      goal: { most: Number((5e6 / cold.overlayfs[0].bytes).toFixed(3)) },
    },
    {
      work: '`nerdctl run`, image here',
      against,
      unit: 'time',
      ratios: here,
      goal: { most: 1 },
    },
  ];
  return {
    name: 'containers',
    text:
      `**containers**: \`nerdctl run --rm --net host IMAGE ${image.program.join(' ')}\` from its start to its end, by a containerd that was just ` +
      'started and has nothing, and a nymph that has mounted another image of that registry before, with a page cache that was dropped. Traced: the same image, after a start of it was traced in another place and the trace pushed. Over a path of 10 ms and 1 Gbit/s, which counts the bytes. The goal for bytes is 5 MB. ' +
      `Image here: one containerd has both images, and ${PAIRS} containers of each run in turn; a round is the ratio of their medians.`,
    rows,
  };
}

/** Starts the container of a contender once, and waits for its end. */
type Start = (contender: Contender) => Promise<Started>;

/** Calls `act` with a containerd and a daemon that have nothing, in a place that is gone afterwards. */
async function withContainerd<T>(
  { lab, place, remote, image }: Surroundings,
  name: string,
  act: (start: Start, nymph: Nymph, home: string) => Promise<T>,
): Promise<T> {
  const undo: (() => Promise<void>)[] = [];
  const home = join(place.scratch, name);
  try {
    const nymph = await startNymph(lab, join(home, 'n'), {
      toml: `[containerd]\naddress = "${join(home, 'c', 'containerd.sock')}"\n`,
    });
    undo.unshift(() => nymph.stop());
    const toml = proxyPlugin('nydus', join(home, 'n', 'snapshotter.sock'));
    const containerd = await testContainerd({ after: (clean) => void undo.unshift(clean) }, join(home, 'c'), toml);
    const start: Start = async ({ repository, snapshotter }) => {
      const before = await remote.received();
      const { total, out } = await run('nerdctl', [
        ...['--address', containerd.address, '--data-root', join(home, 'nerdctl'), '--cgroup-manager', 'cgroupfs'],
        ...['--insecure-registry', '--snapshotter', snapshotter, 'run', '--rm', '--net', 'host'],
        ...[`${remote.host}/${repository}:${TAGS[snapshotter]}`, ...image.program],
      ]);
      if (out !== image.says) throw new Error(`the container said ${JSON.stringify(out)}`);
      return { time: total, bytes: (await remote.received()) - before };
    };
    return await act(start, nymph, home);
  } finally {
    for (const clean of undo) await clean();
    await unmountBelow(home);
    await rm(home, { recursive: true, force: true });
  }
}

/** The command with nothing here. @param after what to do then */
async function fromNothing(
  surroundings: Surroundings,
  contender: Contender,
  name: string,
  after: (nymph: Nymph) => Promise<void> = async () => {},
): Promise<Started> {
  return withContainerd(surroundings, name, async (start, nymph, home) => {
    if (contender.snapshotter === 'nydus') await useDaemon(nymph, surroundings.remote, join(home, 'other'));
    await dropCaches();
    const started = await start(contender);
    await after(nymph);
    return started;
  });
}

/** Both images are here, and containers of them run in turn. @returns median of ours in those of overlayfs */
async function imageHere(surroundings: Surroundings, name: string, pairs: number): Promise<number> {
  const pair = [CONTENDERS.nydus, CONTENDERS.overlayfs];
  return withContainerd(surroundings, name, async (start) => {
    const times: Record<Snapshotter, number[]> = { nydus: [], overlayfs: [] };
    // The first pulls.
    for (const contender of pair) for (let i = 0; i < 2; i++) await start(contender);
    for (let i = 0; i < pairs; i++)
      for (const contender of i % 2 === 0 ? pair : pair.toReversed())
        times[contender.snapshotter].push((await start(contender)).time);
    return median(times.nydus) / median(times.overlayfs);
  });
}

/** Adds the tag `plain`: the archive of a program image as an ordinary image of one layer. */
async function withPlainImage(image: ProgramImage, layout: string): Promise<string> {
  await cp(image.layout, layout, { recursive: true });
  const blobs = join(layout, 'blobs', 'sha256');
  const put = async (mediaType: string, value: object) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const digest = sha256(bytes);
    await writeFile(join(blobs, digest.slice('sha256:'.length)), bytes);
    return { mediaType, digest, size: bytes.length };
  };
  const archive = await readFile(join(blobs, image.archive.slice('sha256:'.length)));
  const index = JSON.parse(await readFile(join(layout, 'index.json'), 'utf8'));
  const config = await put('application/vnd.oci.image.config.v1+json', {
    architecture: { x64: 'amd64', arm64: 'arm64' }[process.arch as string] ?? process.arch,
    os: 'linux',
    config: { Env: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] },
    rootfs: { type: 'layers', diff_ids: [sha256(gunzipSync(archive))] },
  });
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const layer = {
    mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
    digest: image.archive,
    size: archive.length,
  };
  const manifest = await put(mediaType, { schemaVersion: 2, mediaType, config, layers: [layer] });
  index.manifests.push({ ...manifest, annotations: { 'org.opencontainers.image.ref.name': TAGS.overlayfs } });
  await writeFile(join(layout, 'index.json'), JSON.stringify(index));
  return layout;
}

function sha256(bytes: Buffer): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}
