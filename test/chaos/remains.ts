/** What is there when nothing should be: compared before and after. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { mountsBelow, processesWith, until } from '../daemon.ts';
import { snapshotsClient } from '../snapshots.ts';
import type { Containers } from './work.ts';

/** Sockets come and go: so many more than before are no leak. */
const SOCKETS = 12;

/** What is looked at. */
export type Node = Pick<Containers, 'daemon'> & Partial<Pick<Containers, 'containerd'>> & { directory: string };

export interface Remains {
  snapshots: string[];
  mounts: string[];
  processes: string[];
  /** Open files of the daemon, below its root. */
  files: string[];
  /** Other descriptors of it. */
  descriptors: number;
  /** Files and directories below its root, without SQLite's, traces, and what is empty. */
  disk: string[];
}

/**
 * Removes every pod and image, and has containerd and nymph collect what is left.
 * @returns how many containers of killed containerds were ended: one that dies between making a task and noting it forgets
 * it, and its shim and container stay
 */
export async function removeAll(world: Containers): Promise<number> {
  await until(180_000, 'pods or images cannot be removed', async () => {
    await world.pods.removeAll();
    return true;
  });
  const forgotten = shims(world);
  for (const shim of forgotten) {
    const children = readFileSync(`/proc/${shim}/task/${shim}/children`, 'utf8').split(' ').filter(Boolean);
    for (const pid of [...children.map(Number), shim]) process.kill(pid, 'SIGKILL');
  }
  // A pull that was cut off has one for a day. The last to go has the garbage collected.
  const leases = async (...args: string[]) => world.containerd.good('-n', 'k8s.io', 'leases', ...args);
  await leases('create', '--id', 'end');
  for (const id of (await leases('ls', '-q')).split('\n').filter((one) => one && one !== 'end'))
    await leases('delete', id);
  await leases('delete', '--sync', 'end');
  return forgotten.length;
}

function shims({ containerd }: Pick<Containers, 'containerd'>): number[] {
  const containerds = processesWith(containerd.config);
  return processesWith(containerd.directory).filter((pid) => !containerds.includes(pid));
}

/** @param world `directory`: of what else belongs to it */
export async function remains(world: Node): Promise<Remains> {
  const { daemon } = world;
  await daemon.client.prune({ target: 0, force: true });
  const client = snapshotsClient(join(daemon.directory, 'snapshotter.sock'));
  const snapshots = (await client.list()).map(({ name }) => name);
  client.close();
  const { pid, supervisor } = await daemon.client.health();
  const ours = [pid, supervisor];
  const mounts = [daemon.directory, world.directory].flatMap((directory) => mountsBelow(directory));
  const descriptors = readdirSync(`/proc/${pid}/fd`).flatMap((fd) => {
    try {
      return [readlinkSync(`/proc/${pid}/fd/${fd}`)];
    } catch {
      // Closed meanwhile.
      return [];
    }
  });
  const inRoot = (path: string) => path.startsWith(`${daemon.root}/`);
  const waiting = processesWith(`${daemon.directory}/config.toml`).filter((one) => !ours.includes(one));
  return {
    snapshots,
    mounts: mounts.map(({ type, directory }) => `${type} ${directory}`).sort(),
    processes: [
      ...(world.containerd ? shims({ containerd: world.containerd }) : []),
      // One stands for the daemon in the foreground if its supervisor is not there.
      ...waiting.slice(1),
    ].map(String),
    files: descriptors.filter(inRoot).sort(),
    descriptors: descriptors.filter((path) => !inRoot(path)).length,
    // A trace is kept when its image goes.
    disk: filesBelow(daemon.root).filter((path) => !path.startsWith(`${daemon.root}/traces/`)),
  };
}

function filesBelow(directory: string): string[] {
  return readdirSync(directory, { withFileTypes: true })
    .flatMap((entry) => {
      const path = join(directory, entry.name);
      if (!entry.isDirectory()) return /\.db(-\w+)?$/.test(entry.name) ? [] : [path];
      const inside = readdirSync(path);
      return inside.length === 0 ? [] : filesBelow(path);
    })
    .sort();
}

/** What is there now and was not before. Waits for what is on its way out. */
export async function leaks(world: Node, before: Remains): Promise<string[]> {
  let found: string[] = [];
  await until(90_000, 'something is left', async () => {
    const now = await remains(world);
    found = (['snapshots', 'mounts', 'processes', 'files', 'disk'] as const).flatMap((kind) =>
      now[kind].filter((one) => !before[kind].includes(one)).map((one) => `${kind}: ${one}`),
    );
    if (now.descriptors > before.descriptors + SOCKETS)
      found.push(`descriptors: ${now.descriptors}, before ${before.descriptors}`);
    return found.length === 0 || undefined;
  }).catch((error: Error) => {
    if (found.length === 0) found.push(`${error.message}: ${error.cause}`);
  });
  return found;
}
