/** What clients of containerd do all day: pull, run, look at files, remove. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Pod } from '../pods.ts';
import { count, kindOf, type Tally } from './tally.ts';
import { type ChaosImage, PAUSE, type World } from './world.ts';

export interface Losses {
  /** How often the FUSE connection was lost so far. */
  count: number;
}

/** What it works on. */
export type Containers = Pick<World, 'pods' | 'images' | 'daemon' | 'containerd'>;

export interface Living {
  pod: Pod;
  image: ChaosImage;
  /** Losses when it was started. */
  since: number;
}

const SIGBUS = 128 + 7;
const MOST_PODS = 4;
/** A pod that cannot be removed is left to the cleaning at the end after so many tries. */
const TRIES = 5;

/** Works until `signal`; returns the containers that still run. */
export async function work(
  world: Containers,
  tally: Tally,
  losses: Losses,
  { name, random, signal }: { name: string; random: () => number; signal: AbortSignal },
): Promise<Living[]> {
  const living: Living[] = [];
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  let number = 0;

  const run = async () => {
    const image = oneOf(world.images);
    const since = losses.count;
    await world.pods.pull(image.reference);
    const pod = await world.pods.run(`${name}-${number++}`, image.reference, PAUSE);
    const one = { pod, image, since };
    living.push(one);
    await look(one, tally, losses, somePaths(image, random));
  };
  const exec = async () => {
    if (living.length === 0) return;
    const one = oneOf(living);
    await look(one, tally, losses, somePaths(one.image, random));
  };
  const remove = async () => {
    const one = oneOf(living);
    if (!one) return;
    living.splice(living.indexOf(one), 1);
    for (let tries = 1; ; tries++)
      try {
        return await one.pod.remove();
      } catch (error) {
        if (tries === TRIES) throw error;
        await sleep(500);
      }
  };
  const operations: Record<string, [weight: number, operation: () => Promise<unknown>]> = {
    pull: [2, () => world.pods.pull(oneOf(world.images).reference)],
    run: [4, run],
    exec: [8, exec],
    remove: [3, remove],
    'remove image': [2, () => world.pods.removeImage(oneOf(world.images).reference)],
    'collect garbage': [
      1,
      async () => {
        const lease = `${name}-${number++}`;
        await world.containerd.good('-n', 'k8s.io', 'leases', 'create', '--id', lease);
        await world.containerd.good('-n', 'k8s.io', 'leases', 'delete', '--sync', lease);
      },
    ],
    prune: [1, () => world.daemon.client.prune({ target: 0 })],
  };
  const wheel = Object.entries(operations).flatMap(([key, [weight]]) => Array<string>(weight).fill(key));

  while (!signal.aborted) {
    const chosen = living.length >= MOST_PODS ? 'remove' : oneOf(wheel);
    count(tally.operations, chosen);
    try {
      await operations[chosen][1]();
    } catch (error) {
      failed(tally, chosen, String((error as Error).message));
      // Nobody is busier because something is away.
      await sleep(200);
    }
  }
  return living;
}

function failed(tally: Tally, what: string, reason: string): void {
  if (reason.trim() === '') tally.unexplained.push(`${new Date().toISOString().slice(11, 19)} ${what}`);
  else count(tally.failures, `${what}: ${kindOf(reason)}`);
}

function somePaths({ truth }: ChaosImage, random: () => number): string[] {
  const all = [...truth.keys()];
  return Array.from({ length: 1 + Math.floor(random() * 20) }, () => all[Math.floor(random() * all.length)]);
}

/** Has a container print checksums of its files, and compares them. */
export async function look(
  { pod, image, since }: Living,
  tally: Tally,
  losses: Losses,
  paths: string[],
): Promise<void> {
  const known = paths.filter((path) => image.truth.has(path));
  const { status, out, err } = await pod.exec('/usr/bin/sha256sum', ...known);
  const lines = out.split('\n').filter(Boolean);
  for (const line of lines) {
    const [digest, path] = line.split(/\s+/);
    tally.outputs++;
    if (image.truth.get(path) !== digest) tally.wrong.push(`${image.reference} ${pod.container}: ${line}`);
  }
  if (status === 0 && lines.length !== known.length)
    tally.wrong.push(`${image.reference} ${pod.container}: ${lines.length} of ${known.length} files`);
  if (status === 0) return;
  // A program is killed by SIGBUS when a page of it cannot be read.
  const unread = status === SIGBUS || /Input\/output error/.test(err);
  if (unread && losses.count === since) tally.lost.push(`${image.reference} ${pod.container}: status ${status} ${err}`);
  if (status === SIGBUS) failed(tally, 'exec', 'Bus error');
  else if (err === '')
    tally.unexplained.push(
      `${image.reference} ${pod.container}: status ${status} after ${lines.length} of ${known.length} files`,
    );
  else failed(tally, 'exec', err);
}
