/** Models: what a loader of weights gets, lazily against curl, and complete against ext4. */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { makeModel } from '../test/model.ts';
import type { Lab } from './lab.ts';
import { type Nymph, startNymph } from './nymph.ts';
import type { Place } from './place.ts';
import { shell } from './processes.ts';
import { type Remote, startRemote, useDaemon } from './remote.ts';
import type { RemoteOptions } from './remote-trials.ts';
import { median, type Row, type Trial } from './report.ts';

const MIB = 1 << 20;
/** Threads that load a model together. */
const READERS = [1, 2, 8, 16];
const SHARDS = 4;
const BLOCK = 2 * MIB;
/** What takes tenths of a second is measured so often in a round, in turns. */
const TURNS = 5;
const PATH = { rtt: 20, rate: 2e9 };

interface Model {
  remote: Remote;
  reference: string;
  shards: string[];
  /** Bytes of each shard. */
  size: number;
}

export async function models(
  lab: Lab,
  place: Place,
  { rounds, quick }: RemoteOptions,
  say: (line: string) => void,
): Promise<Trial> {
  const size = quick ? 64 * MIB : 1024 * MIB;
  say(`making a model of ${SHARDS} × ${size / MIB} MiB`);
  const layout = join(place.scratch, 'model-layout');
  const shards = Array.from({ length: SHARDS }, (_, i) => `model-0000${i + 1}-of-0000${SHARDS}.safetensors`);
  const manifest = makeModel(layout, 'v1', [
    { path: 'config.json', kind: 'weight.config', bytes: Buffer.from('{}') },
    ...shards.map((path) => ({ path, bytes: shardBytes(size) })),
  ]);
  const blobs = await layersOf(layout, manifest);
  const remote = await startRemote(lab, { model: layout }, PATH);
  const model: Model = { remote, reference: `${remote.host}/model:v1`, shards, size };
  const rows: Row[] = [];
  const row = (work: string, against: string, unit: string, least: number): number[] => {
    const ratios: number[] = [];
    rows.push({ work, against, unit, ratios, goal: { least } });
    return ratios;
  };
  const first = row('first tensor of a model, cold', 'download of all', 'sooner', 20);
  const loads = READERS.map((readers) =>
    row(`loading all of it by ${readers}, cold`, 'curl of the same bytes', 'throughput', 0.95),
  );
  const warm = row('the same, complete, page cache warm', 'ext4', 'throughput', 0.95);
  const cold = row('the same, complete, page cache cold', 'ext4', 'throughput', 0.95);
  const mapped = row('mmap, random 2 MiB, complete, page cache cold', 'ext4', 'throughput', 0.95);
  for (let round = 0; round < rounds; round++) {
    const urls = blobs.map((digest) => `-o /dev/null http://${remote.host}/v2/model/blobs/${digest}`);
    const download = await timed(() => shell(`curl -sSf ${urls.join(' ')}`));
    first.push(download / (await firstTensor(lab, place, model, round)));
    for (const [i, readers] of READERS.entries()) {
      const time = await load(lab, place, model, readers, `${round}-${readers}`);
      loads[i].push(download / time);
      say(
        `  round ${round + 1}: ${readers} readers ${((SHARDS * size) / time / 1e3).toFixed(0)} MB/s, curl ${((SHARDS * size) / download / 1e3).toFixed(0)} MB/s`,
      );
    }
    await complete(lab, place, model, round, { warm, cold, mapped });
  }
  return {
    name: 'models',
    text:
      `**models**: a ModelPack artifact of ${SHARDS} files of ${size / MIB} MiB that do not compress, behind a path with a round trip of 20 ms and 2 Gbit/s. ` +
      'First tensor: from the start of `nymph mount`, with a daemon that runs and an empty cache, until the header of the last file and 2 MiB from its middle are read; against it `curl` of all files. ' +
      'Loading: `dd` processes with blocks of 2 MiB, each its part of every file, from the start of `nymph mount`. Complete: all files checked, against copies of them on the same disk, in turns.',
    rows,
  };
}

/** A header that a loader reads first, then noise. */
function shardBytes(size: number): Buffer {
  const bytes = randomBytes(size);
  bytes.writeBigUInt64LE(4096n, 0);
  bytes.fill(' ', 8, 8 + 4096).write('{}', 8);
  return bytes;
}

async function firstTensor(lab: Lab, place: Place, model: Model, round: number): Promise<number> {
  const { reference, shards, size } = model;
  return lazily(lab, place, model, `first${round}`, async (nymph, directory) => {
    await nymph.command('mount', reference, directory);
    const file = join(directory, shards[SHARDS - 1]);
    const middle = Math.floor(size / 2 / BLOCK);
    await shell(
      `dd if=${file} of=/dev/null bs=4104 count=1 2>&1 && dd if=${file} of=/dev/null bs=${BLOCK} skip=${middle} count=1 2>&1`,
    );
  });
}

async function load(lab: Lab, place: Place, model: Model, readers: number, run: string): Promise<number> {
  return lazily(lab, place, model, `load${run}`, async (nymph, directory) => {
    await nymph.command('mount', model.reference, directory);
    await shell(readAll(directory, model, readers));
  });
}

/** Each reader its part of each file. */
function readAll(directory: string, { shards, size }: Model, readers: number): string {
  const blocks = size / BLOCK;
  const parts = Array.from({ length: readers }, (_, i) => {
    const from = Math.floor((blocks * i) / readers);
    const count = Math.floor((blocks * (i + 1)) / readers) - from;
    const reads = shards.map(
      (name) => `dd if=${join(directory, name)} of=/dev/null bs=${BLOCK} skip=${from} count=${count} 2>/dev/null`,
    );
    return `(${reads.join(' && ')}) & p="$p $!"`;
  });
  return `p=; ${parts.join('; ')}; for i in $p; do wait $i || exit 1; done`;
}

async function lazily(
  lab: Lab,
  place: Place,
  { remote }: Model,
  run: string,
  work: (nymph: Nymph, directory: string) => Promise<void>,
): Promise<number> {
  const home = join(place.scratch, run);
  const directory = join(place.scratch, `${run}.mnt`);
  const nymph = await startNymph(lab, home);
  await useDaemon(nymph, remote, directory);
  const time = await timed(() => work(nymph, directory));
  await nymph.command('umount', directory);
  await nymph.stop();
  await rm(home, { recursive: true, force: true });
  return time;
}

async function complete(
  lab: Lab,
  place: Place,
  model: Model,
  round: number,
  { warm, cold, mapped }: Record<'warm' | 'cold' | 'mapped', number[]>,
): Promise<void> {
  const home = join(place.scratch, `whole${round}`);
  const directory = join(place.scratch, `whole${round}.mnt`);
  const copy = join(place.scratch, `copy${round}`);
  const nymph = await startNymph(lab, home);
  await nymph.command('pull', model.reference);
  await nymph.command('mount', model.reference, directory);
  await mkdir(copy);
  for (const name of model.shards) await copyFile(join(directory, name), join(copy, name));
  const script = join(place.scratch, 'random-tensors.py');
  await writeFile(script, MMAP);
  const ratio = async (command: (where: string) => string, isCold: boolean) => {
    const measure = async (where: string) => {
      if (isCold) await shell('sync; echo 3 > /proc/sys/vm/drop_caches');
      else await shell(command(where));
      return timed(() => shell(command(where)));
    };
    const times: [theirs: number[], ours: number[]] = [[], []];
    for (let turn = 0; turn < TURNS; turn++)
      for (const [i, where] of [copy, directory].entries()) times[i].push(await measure(where));
    return median(times[0]) / median(times[1]);
  };
  const whole = (where: string) => readAll(where, model, 1);
  warm.push(await ratio(whole, false));
  cold.push(await ratio(whole, true));
  mapped.push(await ratio((where) => `python3 ${script} ${join(where, model.shards[0])}`, true));
  await nymph.command('umount', directory);
  await nymph.stop();
  await rm(home, { recursive: true, force: true });
  await rm(copy, { recursive: true, force: true });
}

const MMAP = `
import mmap, random, sys
with open(sys.argv[1], 'rb') as file:
    data = mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)
    random.seed(1)
    blocks = list(range(len(data) >> 21))
    random.shuffle(blocks)
    for block in blocks:
        bytes(data[block << 21:(block + 1) << 21])
`;

async function timed(work: () => Promise<unknown>): Promise<number> {
  const begun = performance.now();
  await work();
  return performance.now() - begun;
}

/** Digests of the weights. */
async function layersOf(layout: string, manifest: string): Promise<string[]> {
  const text = await readFile(join(layout, 'blobs/sha256', manifest.slice('sha256:'.length)), 'utf8');
  const { layers } = JSON.parse(text) as { layers: { digest: string; mediaType: string }[] };
  return layers.filter(({ mediaType }) => mediaType.includes('.weight.v1.')).map(({ digest }) => digest);
}
