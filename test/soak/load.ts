/** What the users of a node without containers do: mount images and models, read them, pull, prune, unmount. */
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { count } from '../chaos/tally.ts';
import { run } from '../daemon.ts';
import type { SoakImage, SoakNode } from './node.ts';
import type { Read } from './reader.ts';
import { failedOperation, type SoakTally, WRONG } from './tally.ts';

const READER = fileURLToPath(new URL('./reader.ts', import.meta.url));
const MOST_MOUNTS = 3;
const FILES = 12;
/** Longer than any fault and the deadline of a read together. */
const HANG_MS = 240_000;
const WAYS = ['order', 'random', 'mmap'] as const;

const isModel = ({ reference }: SoakImage) => reference.includes('/models:');

interface Mounted {
  image: SoakImage;
  place: string;
  /** An unmount was cut off: it may have been made. Nobody reads there. */
  unclear?: boolean;
}

/** Works until `signal`, and unmounts then what it has mounted. */
export async function load(
  node: SoakNode,
  tally: SoakTally,
  { name, random, signal }: { name: string; random: () => number; signal: AbortSignal },
): Promise<void> {
  const { client } = node.daemon;
  const mounts: Mounted[] = [];
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  let number = 0;

  const unmount = async (one: Mounted) => {
    try {
      await client.unmount(one.place, false);
    } catch (error) {
      const isGone = one.unclear && (error as { code?: string }).code === 'not-found';
      one.unclear ||= (error as { code?: string }).code === 'daemon';
      if (!isGone) throw error;
    }
    mounts.splice(mounts.indexOf(one), 1);
  };
  const operations: Record<string, [weight: number, operation: () => Promise<unknown>]> = {
    mount: [
      5,
      async () => {
        if (mounts.length >= MOST_MOUNTS) return unmount(mounts[0]);
        const image = oneOf(node.images);
        const place = node.daemon.place(`${name}-${number++}`);
        // What has come of a model's file is served before it can be checked, unless it is asked for strictly.
        const strict = isModel(image);
        const options = {
          strict,
          prefetch: oneOf(['none', 'image', 'all'] as const),
          via: oneOf(['auto', 'fuse'] as const),
        };
        await client.mount({ reference: image.reference, directory: place, options });
        mounts.push({ image, place });
      },
    ],
    read: [
      12,
      async () => {
        const one = mounts.length > 0 ? oneOf(mounts) : undefined;
        if (one !== undefined && !one.unclear) await read(one, oneOf(WAYS), Math.floor(random() * 1e9), tally);
      },
    ],
    unmount: [2, async () => mounts.length > 0 && unmount(oneOf(mounts))],
    pull: [1, () => client.pull({ reference: oneOf(node.images).reference })],
    prune: [1, () => client.prune({ target: random() < 0.5 ? 0 : undefined })],
    pin: [1, () => client.pin(oneOf(node.images).reference, random() < 0.5)],
    look: [1, () => client.status()],
  };
  const wheel = Object.entries(operations).flatMap(([key, [weight]]) => Array<string>(weight).fill(key));

  while (!signal.aborted) {
    const chosen = oneOf(wheel);
    count(tally.operations, chosen);
    try {
      await operations[chosen][1]();
    } catch (error) {
      failedOperation(tally, chosen, error);
      await sleep(200);
    }
  }
  for (const one of [...mounts])
    for (let tries = 1; mounts.includes(one); tries++)
      await unmount(one).catch(async (error) => {
        if (tries === 20) throw error;
        await sleep(1_000);
      });
}

async function read(
  { image, place }: Mounted,
  how: (typeof WAYS)[number],
  seed: number,
  tally: SoakTally,
): Promise<void> {
  const args = [READER, image.truth, place, how, String(seed), String(FILES)];
  const { status, signal, out, err, milliseconds } = await run(process.execPath, args, { timeout: HANG_MS });
  const where = `${new Date().toISOString().slice(11, 19)} ${image.reference} by ${how}`;
  /** A file of a model that came wrong, and nobody has right just then, fails as a whole. */
  const failed = (list: string[]) => {
    const cameWrong = isModel(image) && tally.timeline.some((line) => WRONG.test(line));
    if (cameWrong) for (const _ of list) count(tally.failures, 'read: a file of a model that came wrong');
    else tally.unexplained.push(...list.map((one) => `${where}: ${one}`));
  };
  if (status !== 0) {
    const what = milliseconds >= HANG_MS ? `no answer within ${HANG_MS} ms` : `${signal ?? status} ${err.trim()}`;
    failed([what]);
    return;
  }
  const { files, bytes, wrong, failed: unread } = JSON.parse(out.toString()) as Read;
  tally.reads[how] = (tally.reads[how] ?? 0) + files;
  tally.bytes += bytes;
  tally.wrong.push(...wrong.map((one) => `${where}: ${one}`));
  failed(unread);
}
