/** The parts of a node, each a process of its own that can be killed: registry, nymph, containerd. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { answers } from '../../src/daemon/socket.ts';
import { criConfig, type TestContainerd, testContainerd } from '../containerd.ts';
import { isAlive, NYMPH, processesWith, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { freePort } from '../free-port.ts';
import { randomSeries } from '../manifest/read.ts';
import { copyPrograms, makeImagesOnOneBase } from '../plain-image.ts';
import { type Pods, podClient } from '../pods.ts';

export interface World {
  readonly directory: string;
  readonly daemon: TestDaemon;
  readonly containerd: TestContainerd;
  readonly pods: Pods;
  readonly images: ChaosImage[];
  readonly registry: Service;
  /** Starts containerd, where it does not run. */
  containerdUp(): Promise<void>;
  /** Every part answers. */
  healthy(): Promise<void>;
  /** Ends the service manager of nymph: what dies stays dead. */
  end(): Promise<void>;
}

/** What a service manager is told to start. */
export interface Service {
  /** Process id, while it runs. */
  pid(): number | undefined;
  /** Starts it, where it does not run. */
  start(): void;
}

export interface ChaosImage {
  reference: string;
  /** SHA-256 by path. */
  truth: ReadonlyMap<string, string>;
}

const VARIANTS = 3;
const PROGRAMS = ['/bin/sh', '/bin/cat', '/bin/ls', '/bin/sleep', '/usr/bin/sha256sum'];
export const PAUSE = ['/bin/sleep', '100000'];
const RESTART_MS = 500;
const REGISTRY = fileURLToPath(new URL('../registry/main.ts', import.meta.url));

export async function createWorld(t: { after(clean: () => Promise<void>): void }, seed: number): Promise<World> {
  const directory = mkdtempSync('/tmp/nymph-chaos-');
  t.after(async () => rmSync(directory, { recursive: true, force: true }));
  const layouts = join(directory, 'layouts');
  const truths = await makeImages(layouts, seed);

  const port = await freePort();
  const host = `127.0.0.1:${port}`;
  const speed = ['--latency', '5', '--bandwidth', String(6 << 20)];
  const registryArgs = [
    '--port',
    String(port),
    ...speed,
    '--layout',
    join(layouts, 'app'),
    '--layout',
    join(layouts, 'plain'),
  ];
  const registry = service(join(directory, 'registry.log'), () => [process.execPath, REGISTRY, ...registryArgs]);
  registry.start();
  t.after(async () => kill(registry.pid()));

  const home = join(directory, 'c');
  const toml = `[containerd]\naddress = "${join(home, 'containerd.sock')}"\n`;
  const daemon = await testDaemon(t, { toml, start: false });
  const config = join(daemon.directory, 'config.toml');
  const nymph = service(join(directory, 'nymph.log'), () => [NYMPH, '--config', config, 'daemon']);
  let ending = false;
  const manager = (async () => {
    for (; !ending; await sleep(RESTART_MS)) if (nymph.pid() === undefined) nymph.start();
  })();
  const end = async () => {
    ending = true;
    await manager;
  };
  t.after(end);
  await until(60_000, 'nymph does not start', () => daemon.client.health());
  const containerd = await testContainerd(
    t,
    home,
    criConfig(join(daemon.directory, 'snapshotter.sock'), `${host}/plain:v0`),
  );
  const pods = podClient(containerd.address);
  t.after(async () => pods.close());

  const containerdUp = async () => {
    if (!(await answers(containerd.address))) await containerd.start();
  };
  const images = imagesOf(host, truths);
  return {
    directory,
    daemon,
    containerd,
    pods,
    images,
    registry,
    containerdUp,
    async healthy() {
      registry.start();
      await containerdUp();
      await daemon.supervised();
      await until(120_000, 'containerd does not find the snapshotter', async () => {
        await containerd.good('snapshots', '--snapshotter', 'nymph', 'prepare', 'probe');
        await containerd.good('snapshots', '--snapshotter', 'nymph', 'rm', 'probe');
        return true;
      });
      await until(60_000, 'the CRI plugin is not ready', async () => {
        await pods.pull(`${host}/plain:v0`);
        return true;
      });
    },
    end,
  };
}

/** The images that a registry serves from these layouts, the lazy ones more often. */
export function imagesOf(host: string, truths: readonly ReadonlyMap<string, string>[]): ChaosImage[] {
  return ['app:nydus', 'app:nydus', 'app:both', 'plain:v'].flatMap((name) =>
    truths.map((truth, i) => ({ reference: `${host}/${name}${i}`, truth })),
  );
}

/** Images that share their first layer, in `layouts/plain`, and Nydus images of them in `layouts/app`; returns what is in them. */
export async function makeImages(layouts: string, seed: number): Promise<Map<string, string>[]> {
  const truths = makePlainImages(layouts, seed);
  for (let i = 0; i < VARIANTS; i++)
    for (const options of [[`oci:${layouts}/app:nydus${i}`], ['--index', `oci:${layouts}/app:both${i}`]]) {
      const converted = await run(NYMPH, ['convert', `oci:${layouts}/plain:v${i}`, ...options]);
      if (converted.status !== 0) throw new Error(`convert: ${converted.err}`);
    }
  return truths;
}

function makePlainImages(layouts: string, seed: number): Map<string, string>[] {
  const random = randomSeries(seed);
  const bytes = (size: number) => Buffer.from(Uint8Array.from({ length: size }, () => random() * 256));
  const base = files('/etc/base', 60, () => bytes(200 + random() * 9000));
  const own = Array.from({ length: VARIANTS }, (_, i) => {
    const many = files('/data/many', 150, () => bytes(500 + random() * 20_000));
    return many.set('/data/large', bytes((6 + i) << 20));
  });
  const write = (content: Map<string, Buffer>) => (tree: string) => {
    for (const [path, data] of content) {
      mkdirSync(join(tree, path, '..'), { recursive: true });
      writeFileSync(join(tree, path), data);
    }
  };
  const first = (tree: string) => {
    copyPrograms(tree, ...PROGRAMS);
    for (const name of ['proc', 'sys', 'dev', 'run', 'tmp']) mkdirSync(join(tree, name));
    write(base)(tree);
  };
  const tags = Object.fromEntries(own.map((content, i) => [`v${i}`, [write(content)]]));
  makeImagesOnOneBase(join(layouts, 'plain'), [first], tags, PAUSE);
  return own.map((content) => {
    const all = [...base, ...content];
    return new Map(all.map(([path, data]) => [path, createHash('sha256').update(data).digest('hex')]));
  });
}

function files(prefix: string, count: number, content: () => Buffer): Map<string, Buffer> {
  return new Map(Array.from({ length: count }, (_, i) => [`${prefix}${i}`, content()]));
}

function service(log: string, command: () => string[]): Service {
  let child: ChildProcess | undefined;
  const pid = () => (child?.pid !== undefined && isAlive(child.pid) ? child.pid : undefined);
  return {
    pid,
    start() {
      if (pid() !== undefined) return;
      const [program, ...args] = command();
      const output = openSync(log, 'a');
      child = spawn(program, args, { stdio: ['ignore', output, output] });
    },
  };
}

function kill(pid: number | undefined): void {
  if (pid !== undefined) process.kill(pid, 'SIGKILL');
}

/** The process of containerd, not its shims. */
export function containerdPid({ containerd }: World): number | undefined {
  return processesWith(containerd.config)[0];
}
