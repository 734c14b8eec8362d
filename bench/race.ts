/** The race between a registry and Dragonfly, against each of them alone: needs `scheduler`, `dfdaemon` and `dfget` on the PATH. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ControlClient, controlClient } from '../src/daemon/control-client.ts';
import { type Cluster, startCluster } from '../test/dragonfly/cluster.ts';
import { blobUrls, dfget, NOISE_TAG, noiseImage, type RaceOptions, requireCluster } from './dragonfly.ts';
import type { Lab } from './lab.ts';
import { startNymph } from './nymph.ts';
import type { Place } from './place.ts';
import { run } from './processes.ts';
import { type ProgramImage, programImage } from './program-image.ts';
import { type Remote, startRemote, useDaemon } from './remote.ts';
import type { Row, Trial } from './report.ts';

/** What is known of the swarm when a node begins. */
const SWARMS = ['warm', 'cold', 'stalled', 'local'] as const;
type SwarmState = (typeof SWARMS)[number];

const PATHS: Record<string, { rtt: number; rate: number }> = {
  fast: { rtt: 10, rate: 1e9 },
  slow: { rtt: 50, rate: 1e8 },
};
const BLOB_BYTES = 46_000_000;
const GOAL = 1.05;
/** Of a fill from this node's own dfdaemon, against a copy that dfget makes. */
const LOCAL_GOAL = 1 / 0.9;
const IDLE_MS = 500;
/** Another file system than dfdaemon's: there dfget copies; elsewhere it links, and no byte is moved. */
const COPIES = '/dev/shm';

interface Stage {
  lab: Lab;
  place: Place;
  remote: Remote;
  cluster: Cluster;
  image: ProgramImage;
  /** Layout of an image of one blob. */
  large: string;
  round: number;
  swarm: SwarmState;
}

export async function race(
  lab: Lab,
  place: Place,
  { rounds, cells }: RaceOptions,
  say: (line: string) => void,
): Promise<Trial> {
  requireCluster();
  const image = await programImage(lab, place);
  const large = await noiseImage(place, 'large', BLOB_BYTES);
  const rows: Row[] = [];
  for (const [pathName, path] of Object.entries(PATHS)) {
    const wanted = SWARMS.filter((swarm) => cells === undefined || cells.includes(`${pathName}-${swarm}`));
    if (wanted.length === 0) continue;
    const remote = await startRemote(lab, { program: image.layout, large }, path);
    say('starting a cluster: 35 s');
    const cluster = await startCluster((clean) => lab.later(clean), `http://${remote.host}`);
    for (const swarm of wanted) {
      const works: readonly Work[] = swarm === 'local' ? ['large'] : ['start', 'large', 'all'];
      const ratios: Record<Work, number[]> = { start: [], large: [], all: [] };
      for (let round = 0; round < rounds; round++) {
        const stage: Stage = { lab, place, remote, cluster, image, large, round, swarm };
        for (const work of works) {
          const { alone, both, text } = await compared(stage, work);
          ratios[work].push(both / alone);
          say(`  ${pathName} registry, ${swarm} Dragonfly, ${work}, round ${round + 1}: ${text}`);
        }
      }
      const texts = {
        start: 'first output',
        large: `fetching a blob of ${BLOB_BYTES / 1e6} MB`,
        all: 'fetching all of the image',
      };
      for (const work of works)
        rows.push({
          work: `${texts[work]}: registry ${pathName}, Dragonfly ${swarm}`,
          against: swarm === 'local' ? 'dfget, copying' : 'the better of the two alone',
          unit: 'time',
          ratios: ratios[work],
          goal: { most: swarm === 'local' ? LOCAL_GOAL : GOAL },
        });
    }
    cluster.stop();
  }
  return {
    name: 'race',
    text:
      '**the race**: `nymph mount` and a program, and `nymph pull`, with the registry and a real Dragonfly at once, against the better of the two ' +
      'alone: nymph without Dragonfly, and `dfget` of the same blobs into files (where it is not stalled). A registry, a scheduler, a seed and two peers on this machine; ' +
      `the registry is reached by all of them over one path: fast is ${PATHS.fast.rtt} ms and ${PATHS.fast.rate / 1e9} Gbit/s, slow ${PATHS.slow.rtt} ms and ${PATHS.slow.rate / 1e6} Mbit/s. ` +
      'Warm: another peer has all blobs. Local: the dfdaemon of the node has; there the goal is 0.9 × the rate of dfget, which copies to another file system. Cold: nobody has. Stalled: the dfdaemon of the node is stopped. Tasks have another tag each time, so that none is known from before.',
    rows,
  };
}

type Work = 'start' | 'large' | 'all';

async function compared(stage: Stage, work: Work): Promise<{ alone: number; both: number; text: string }> {
  const parts: string[] = [];
  const contenders: Record<string, () => Promise<number>> = {
    both: () => byNymph(stage, work, tagOf(stage, work, 'both'), (line) => parts.push(line)),
  };
  if (stage.swarm !== 'local') contenders.registry = () => byNymph(stage, work, undefined);
  if (work !== 'start' && stage.swarm !== 'stalled') contenders.dfget = () => byDfget(stage, work);
  const order = Object.entries(contenders);
  if (stage.round % 2 === 1) order.reverse();
  const times: Record<string, number> = {};
  for (const [name, contender] of order) {
    await idle(stage.remote);
    times[name] = await contender();
  }
  const alone = Math.min(times.registry ?? Number.POSITIVE_INFINITY, times.dfget ?? Number.POSITIVE_INFINITY);
  const text = Object.entries(times).map(([name, time]) => `${name} ${time.toFixed(0)} ms`);
  return { alone, both: times.both, text: [...text, ...parts].join(', ') };
}

function tagOf({ swarm, round }: Stage, work: Work, who: string): string {
  return `${who}-${work}-${swarm}-${round}-${process.pid}`;
}

/** @param tag of the tasks; without one, Dragonfly is left alone @param say is told what bytes came from where */
async function byNymph(
  stage: Stage,
  work: Work,
  tag: string | undefined,
  say: (line: string) => void = () => {},
): Promise<number> {
  const { lab, place, remote, cluster, image, swarm } = stage;
  const home = join(place.scratch, 'race');
  const toml =
    tag === undefined
      ? '[dragonfly]\nendpoint = "none"\n'
      : `[dragonfly]\nendpoint = "unix://${cluster.sockets[1]}"\ndigest_ids = false\ntag = "${tag}"\n`;
  if (tag !== undefined) await prepare(stage, work, tag);
  const nymph = await startNymph(lab, home, { toml });
  const directory = join(place.scratch, 'race.mnt');
  // It has read other images before; and it finds dfdaemon, and loads what speaks to it.
  await useDaemon(nymph, remote, directory);
  await sleep(500);
  const stopped = tag !== undefined && swarm === 'stalled' ? cluster.pid('peer-2') : undefined;
  if (stopped !== undefined) process.kill(stopped, 'SIGSTOP');
  try {
    await run('sync', []);
    const client = controlClient(join(home, 'control.sock'));
    const tell = await traffic(remote, client);
    const begun = performance.now();
    if (work !== 'start') {
      // As a program asks for it: Node's own start is none of the race.
      let filling: number | undefined;
      await client.pull({ reference: referenceOf(remote, work) }, ({ stage: at }) => {
        if (at === 'fetching') filling ??= performance.now();
      });
      // dfget is told what to get: of a fill out of this node's own dfdaemon the rest would be most.
      const time = performance.now() - (swarm === 'local' ? (filling ?? begun) : begun);
      say(await tell());
      return time;
    }
    await nymph.command('mount', referenceOf(remote, work), directory);
    const { out } = await run('env', ['LC_ALL=C', 'chroot', directory, ...image.program]);
    const time = performance.now() - begun;
    if (out !== image.says) throw new Error(`the program said ${JSON.stringify(out)}`);
    say(await tell());
    await nymph.command('umount', directory);
    return time;
  } finally {
    if (stopped !== undefined) process.kill(stopped, 'SIGCONT');
    await nymph.stop();
    await rm(home, { recursive: true });
  }
}

/** Until nothing crosses the path any more: a seed goes on with what it has begun, long after who wanted it has ended. */
async function idle({ received }: Remote): Promise<void> {
  for (let before = Number.NaN, now = await received(); now !== before; now = await received()) {
    before = now;
    await sleep(IDLE_MS);
  }
}

/** Counts from now on: what has crossed the path by then, for whomever, and what the daemon has got from whom. */
async function traffic(remote: Remote, client: ControlClient): Promise<() => Promise<string>> {
  const ofStart = (await client.status()).fetch.sources;
  const path = await remote.received();
  const inMegabytes = (bytes: number, before = 0) => ((bytes - before) / 1e6).toFixed(1);
  return async () => {
    const crossed = inMegabytes(await remote.received(), path);
    const parts = Object.entries((await client.status()).fetch.sources).flatMap(([name, { bytes, from }]) =>
      from === undefined
        ? [`${inMegabytes(bytes, ofStart[name]?.bytes)} MB by requests`]
        : Object.entries(from).map(
            ([who, count]) => `${inMegabytes(count, ofStart[name]?.from?.[who as keyof typeof from])} from ${who}`,
          ),
    );
    return `(${crossed} MB over the path; ${parts.filter((part) => !part.startsWith('0.0 ')).join(', ')})`;
  };
}

function referenceOf({ host }: Remote, work: Work): string {
  return work === 'large' ? `${host}/large:${NOISE_TAG}` : `${host}/program:nydus`;
}

function urlsOf({ remote, image, large }: Stage, work: Work): Promise<string[]> {
  return work === 'large'
    ? blobUrls(remote, large, NOISE_TAG, 'large')
    : blobUrls(remote, image.layout, 'nydus', 'program');
}

/** Has the other peer, or this node's, fetch all blobs. */
async function prepare(stage: Stage, work: Work, tag: string): Promise<void> {
  const { swarm, cluster, place } = stage;
  if (swarm !== 'warm' && swarm !== 'local') return;
  const socket = cluster.sockets[swarm === 'warm' ? 0 : 1];
  for (const url of await urlsOf(stage, work)) await dfget(url, tag, socket, place.scratch);
}

async function byDfget(stage: Stage, work: Work): Promise<number> {
  const tag = tagOf(stage, work, 'dfget');
  await prepare(stage, work, tag);
  const to = stage.swarm === 'local' ? COPIES : stage.place.scratch;
  let total = 0;
  for (const url of await urlsOf(stage, work)) total += await dfget(url, tag, stage.cluster.sockets[1], to);
  return total;
}
