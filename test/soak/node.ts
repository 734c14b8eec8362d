/** A node for the soak: its daemon on a small disk, with a clock that can be set and a cgroup; a registry and a dfdaemon that fail when told to. */
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Containers } from '../chaos/work.ts';
import { imagesOf, makeImages, PAUSE } from '../chaos/world.ts';
import { criConfig, noContainerd, testContainerd } from '../containerd.ts';
import { type TestDaemon, testDaemon, until } from '../daemon.ts';
import { type Dfdaemon, startDfdaemon } from '../dfdaemon/stand-in.ts';
import { makeImage } from '../made-image.ts';
import { makeModel } from '../model.ts';
import { podClient } from '../pods.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';
import { smallDisk } from '../small-disk.ts';
import { makeBigFile, makeManyFiles, noiseBytes } from '../tree.ts';
import { type Cgroup, memoryCgroup } from './cgroup.ts';

const MIB = 1 << 20;
const DISK = 320 * MIB;
/** Less than all images take, so that there is always something to evict. */
const QUOTA = 90 * MIB;
const FAKETIME = ['x86_64-linux-gnu', 'aarch64-linux-gnu'].map(
  (arch) => `/usr/lib/${arch}/faketime/libfaketimeMT.so.1`,
);

export interface SoakNode {
  readonly directory: string;
  readonly disk: string;
  readonly daemon: TestDaemon;
  readonly registry: TestRegistry;
  readonly dfdaemon: { current: Dfdaemon; start(): Promise<void> };
  /** What can be mounted, each with a directory that has the same files. */
  readonly images: SoakImage[];
  /** Where containerd is. */
  readonly containers: Containers | undefined;
  /** Sets the clock of daemon and supervisor, seconds from the true time; undefined where there is no libfaketime. */
  readonly clock: ((offset: number) => void) | undefined;
  readonly cgroup: Cgroup | { why: string };
}

export interface SoakImage {
  reference: string;
  truth: string;
}

export async function createNode(t: { after(clean: () => Promise<void>): void }, seed: number): Promise<SoakNode> {
  const directory = mkdtempSync('/tmp/nymph-soak-');
  t.after(async () => rmSync(directory, { recursive: true, force: true }));
  const small = await smallDisk(t, DISK);
  if ('why' in small) throw new Error(small.why);

  const layouts = join(directory, 'layouts');
  const truths = await makeImages(layouts, seed);
  const trees = await makeTrees(join(directory, 'trees'), seed);
  const models = makeModels(join(directory, 'models'), seed);
  const registry = await startRegistry({
    layouts: {
      app: join(layouts, 'app'),
      plain: join(layouts, 'plain'),
      trees: join(directory, 'trees', 'layout'),
      models: join(directory, 'models', 'layout'),
    },
    faults: { latency: 5 },
  });
  t.after(() => registry.close());

  const socket = join(directory, 'dfdaemon.sock');
  const known = new Map<string, Buffer>();
  for (const layout of [join(directory, 'trees', 'layout'), join(layouts, 'app')])
    for (const name of readdirSync(join(layout, 'blobs/sha256')))
      known.set(name, readFileSync(join(layout, 'blobs/sha256', name)));
  const dfdaemon: SoakNode['dfdaemon'] = {
    current: await startDfdaemon({ socket, pieceLength: MIB }),
    async start() {
      dfdaemon.current = await startDfdaemon({ socket, pieceLength: MIB });
      for (const [name, bytes] of known) dfdaemon.current.peers.set(name, bytes);
    },
  };
  for (const [name, bytes] of known) dfdaemon.current.peers.set(name, bytes);
  t.after(async () => dfdaemon.current.kill());

  const home = join(directory, 'c');
  const offset = join(directory, 'clock');
  const library = FAKETIME.find((path) => existsSync(path));
  writeFileSync(offset, '+0');
  const toml = `[containerd]
address = "${join(home, 'containerd.sock')}"
[cache]
quota = ${QUOTA}
low_water = 70
[fetch]
prefetch_bandwidth = "8MiB"
[registry]
body_timeout = "5s"
header_timeout = "5s"
[dragonfly]
endpoint = "unix://${socket}"
`;
  const daemon = await testDaemon(t, {
    toml,
    root: join(small.point, 'r'),
    start: false,
    // Times of files, and the clock by which timers run, stay as they are: a clock that is set changes neither.
    env: library
      ? {
          LD_PRELOAD: library,
          FAKETIME_TIMESTAMP_FILE: offset,
          FAKETIME_CACHE_DURATION: '1',
          FAKETIME_DONT_FAKE_MONOTONIC: '1',
          NO_FAKE_STAT: '1',
        }
      : {},
  });
  const health = await daemon.start();
  const cgroup = memoryCgroup(t, [health.pid, ...(health.supervisor === undefined ? [] : [health.supervisor])]);
  const { host } = registry;
  return {
    directory,
    disk: small.point,
    daemon,
    registry,
    dfdaemon,
    images: [
      ...trees.map(({ tag, truth }) => ({ reference: `${host}/trees:${tag}`, truth })),
      ...models.map(({ tag, truth }) => ({ reference: `${host}/models:${tag}`, truth })),
    ],
    containers: await containersOf(t, daemon, home, host, truths),
    clock: library ? (seconds) => writeFileSync(offset, `${seconds < 0 ? '' : '+'}${seconds}`) : undefined,
    cgroup,
  };
}

async function makeTrees(directory: string, seed: number): Promise<{ tag: string; truth: string }[]> {
  const made = [];
  for (const [i, tag] of ['one', 'two', 'three'].entries())
    made.push(
      await makeImage(directory, tag, (tree) => {
        makeManyFiles(tree, { count: 400, maxSize: 60_000, seed: seed * 10 + i });
        makeBigFile(join(tree, 'big'), (16 + 4 * i) * MIB, seed * 10 + i);
      }),
    );
  return made;
}

function makeModels(directory: string, seed: number): { tag: string; truth: string }[] {
  return ['small', 'large'].map((tag, i) => {
    const truth = join(directory, tag);
    mkdirSync(truth, { recursive: true });
    const files = [
      { path: 'config.json', bytes: Buffer.from(`{"seed": ${seed}}\n`), kind: 'config' },
      { path: 'tokenizer.bin', bytes: noiseBytes(900_000, seed + i) },
      { path: 'weights.bin', bytes: noiseBytes((10 + 12 * i) * MIB, seed + 7 + i) },
    ];
    for (const { path, bytes } of files) writeFileSync(join(truth, path), bytes);
    makeModel(
      join(directory, 'layout'),
      tag,
      files.map(({ path, bytes, kind }) => ({ path, bytes, ...(kind && { kind: 'weight.config' }) })),
    );
    return { tag, truth };
  });
}

async function containersOf(
  t: { after(clean: () => Promise<void>): void },
  daemon: TestDaemon,
  home: string,
  host: string,
  truths: Map<string, string>[],
): Promise<Containers | undefined> {
  if (noContainerd()) return undefined;
  const config = criConfig(join(daemon.directory, 'snapshotter.sock'), `${host}/plain:v0`);
  const containerd = await testContainerd(t, home, config);
  const pods = podClient(containerd.address);
  t.after(async () => pods.close());
  await until(60_000, 'the CRI plugin is not ready', async () => {
    await pods.pull(`${host}/plain:v0`);
    return true;
  });
  return { daemon, containerd, pods, images: imagesOf(host, truths) };
}

export { PAUSE };
