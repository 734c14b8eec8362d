/** What Dragonfly costs a reader when it is not there, stands still, dies or stutters: needs what `race.ts` needs. */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Status } from '../src/daemon/api.ts';
import { type ControlClient, controlClient } from '../src/daemon/control-client.ts';
import { type Cluster, startCluster } from '../test/dragonfly/cluster.ts';
import { blobUrls, dfget, NOISE_FILE, NOISE_TAG, noiseImage, type RaceOptions, requireCluster } from './dragonfly.ts';
import type { Lab } from './lab.ts';
import { startNymph } from './nymph.ts';
import type { Place } from './place.ts';
import { type Remote, startRemote, useDaemon } from './remote.ts';
import type { Row, Trial } from './report.ts';

/** What becomes of the node's dfdaemon, which peers could feed at once. */
const FATES = ['absent', 'stalled', 'killed', 'slow'] as const;
type Fate = (typeof FATES)[number];

const FILE_BYTES = 256 << 20;
/** So that a read costs little more than what it asks for, and the file lasts for all of them. */
const CHUNK_BYTES = 64 << 10;
const READS = 300;
const SMALLEST = 4 << 10;
const LARGEST = 1 << 20;
/** A slow one stands still for most of the time, ms: longer than any answer of the registry takes. */
const STOP = 400;
const GO = 100;
const NAME = 'noise';

interface Stage {
  lab: Lab;
  place: Place;
  remote: Remote;
  cluster: Cluster;
  layout: string;
  round: number;
}

interface Outcome {
  /** ms, the 99th percentile. */
  p99: number;
  status: Status;
}

export async function raceFaults(
  lab: Lab,
  place: Place,
  { rounds, cells }: RaceOptions,
  say: (line: string) => void,
): Promise<Trial> {
  requireCluster();
  const layout = await noiseImage(place, 'noise', FILE_BYTES, CHUNK_BYTES);
  const remote = await startRemote(lab, { [NAME]: layout });
  say('starting a cluster: 35 s');
  const cluster = await startCluster((clean) => lab.later(clean), `http://${remote.host}`);
  const rows: Row[] = [];
  for (const fate of FATES.filter((name) => cells === undefined || cells.includes(name))) {
    const ratios: number[] = [];
    for (let round = 0; round < rounds; round++) {
      const stage: Stage = { lab, place, remote, cluster, layout, round };
      const runs: ('with' | 'without')[] = round % 2 === 0 ? ['without', 'with'] : ['with', 'without'];
      const found: Partial<Record<'with' | 'without', Outcome>> = {};
      for (const how of runs) found[how] = await read(stage, how === 'with' ? fate : undefined);
      const { p99: without } = found.without!;
      const { p99, status } = found.with!;
      const hedge = hedgeOf(status);
      ratios.push((p99 - without) / hedge);
      const streamed = ((status.fetch.bytes.dragonfly ?? 0) / 1e6).toFixed(0);
      say(
        `  dfdaemon ${fate}, round ${round + 1}: p99 ${p99.toFixed(1)} ms, without ${without.toFixed(1)} ms, ` +
          `hedge delay ${hedge.toFixed(1)} ms, ${streamed} MB by Dragonfly`,
      );
    }
    rows.push({
      work: `99th percentile of reads of 4 KiB to 1 MiB at random, dfdaemon ${fate}: how much longer than without Dragonfly`,
      against: 'the hedge delay',
      unit: 'time',
      ratios,
      goal: { most: 1 },
    });
  }
  cluster.stop();
  return {
    name: 'race-faults',
    text:
      `**faults beside a Dragonfly that fails**: ${READS} reads, one after another, of 4 KiB to 1 MiB at random places of a mounted file of ${FILE_BYTES >> 20} MiB, from a registry at 10 ms and 1 Gbit/s; the same places with Dragonfly and without. ` +
      `Another peer has the blob. The dfdaemon of the node is absent; stopped before the mount; killed when something of its stream has come; or slow: stopped for ${STOP} of ${STOP + GO} ms. ` +
      "The hedge delay, after which a reader that waits for the stream asks the registry as well, is the 95th percentile of the registry's answers in that run, 5 ms at least.",
    rows,
  };
}

/** @param fate of the dfdaemon; without one, Dragonfly is left alone */
async function read(stage: Stage, fate: Fate | undefined): Promise<Outcome> {
  const { lab, place, remote, cluster, layout, round } = stage;
  const home = join(place.scratch, 'faults');
  const directory = join(place.scratch, 'faults.mnt');
  const tag = `faults-${fate}-${round}-${process.pid}`;
  const socket = fate === 'absent' ? join(cluster.directory, 'nobody.sock') : cluster.sockets[1];
  const endpoint = fate === undefined ? 'none' : `unix://${socket}`;
  if (fate !== undefined && fate !== 'absent')
    for (const url of await blobUrls(remote, layout, NOISE_TAG, NAME))
      await dfget(url, tag, cluster.sockets[0], place.scratch);
  const toml = `[dragonfly]\nendpoint = "${endpoint}"\ndigest_ids = false\ntag = "${tag}"\n`;
  const nymph = await startNymph(lab, home, { toml });
  const client = controlClient(join(home, 'control.sock'));
  let undo = async () => {};
  try {
    await useDaemon(nymph, remote, directory);
    await sleep(500);
    if (fate === 'stalled') undo = stall(cluster);
    await nymph.command('mount', `${remote.host}/${NAME}:${NOISE_TAG}`, directory);
    if (fate === 'slow') undo = stutter(cluster);
    if (fate === 'killed') undo = kill(cluster, client);
    const times = await timeReads(join(directory, NOISE_FILE), round);
    const status = await client.status();
    await nymph.command('umount', directory);
    return { p99: times.sort((a, b) => a - b)[Math.floor(times.length * 0.99)], status };
  } finally {
    await undo();
    await nymph.stop();
    await rm(home, { recursive: true });
  }
}

function stall(cluster: Cluster): () => Promise<void> {
  const pid = cluster.pid('peer-2');
  process.kill(pid, 'SIGSTOP');
  return async () => void process.kill(pid, 'SIGCONT');
}

function stutter(cluster: Cluster): () => Promise<void> {
  const pid = cluster.pid('peer-2');
  let timer: NodeJS.Timeout;
  const go = () => {
    process.kill(pid, 'SIGCONT');
    timer = setTimeout(stop, GO);
  };
  const stop = () => {
    process.kill(pid, 'SIGSTOP');
    timer = setTimeout(go, STOP);
  };
  go();
  return async () => {
    clearTimeout(timer);
    process.kill(pid, 'SIGCONT');
  };
}

/** As soon as something of its stream has come. */
function kill(cluster: Cluster, client: ControlClient): () => Promise<void> {
  const ending = new AbortController();
  const killing = (async () => {
    while (!ending.signal.aborted) {
      const { fetch } = await client.status();
      if ((fetch.bytes.dragonfly ?? 0) > 0) return process.kill(cluster.pid('peer-2'), 'SIGKILL');
      await sleep(20);
    }
    throw new Error('nothing came of the stream, so it was not killed in its midst: more reads would help');
  })();
  killing.catch(() => {});
  return async () => {
    ending.abort();
    await killing;
    await cluster.restart('peer-2');
    // Its scheduler meets it again.
    await sleep(2_000);
  };
}

/** One after another; sizes evenly spread over powers of two. @returns ms of each */
async function timeReads(path: string, seed: number): Promise<number[]> {
  await using file = await open(path, 'r');
  const buffer = Buffer.alloc(LARGEST);
  const random = randomNumbers(seed + 1);
  const times: number[] = [];
  for (let i = 0; i < READS; i++) {
    const size = Math.round((SMALLEST * (LARGEST / SMALLEST) ** random()) / SMALLEST) * SMALLEST;
    const at = Math.floor((random() * (FILE_BYTES - size)) / SMALLEST) * SMALLEST;
    const begun = performance.now();
    const { bytesRead } = await file.read(buffer, 0, size, at);
    times.push(performance.now() - begun);
    if (bytesRead !== size) throw new Error(`${bytesRead} bytes instead of ${size} at ${at}`);
  }
  return times;
}

/** The same each time: a linear congruence (Numerical Recipes). */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}

/** After how long a reader that waits for a stream asks the registry as well, as the daemon has it. */
function hedgeOf({ fetch: { sources } }: Status): number {
  const [, registry] = Object.entries(sources).find(([name]) => name !== 'dragonfly')!;
  return Math.min(1_000, Math.max(5, registry.latencyMs.p95 ?? 10));
}
