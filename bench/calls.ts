/** Single calls of the snapshotter: `Prepare` through a real containerd, and many clients at our socket. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { proxyPlugin, type TestContainerd, testContainerd } from '../test/containerd.ts';
import { snapshotsClient } from '../test/snapshots.ts';
import type { CallTimes } from './callers.ts';
import type { ContainerOptions } from './container-trials.ts';
import type { Lab } from './lab.ts';
import { startNymph } from './nymph.ts';
import { freshExt4, type Place } from './place.ts';
import { run } from './processes.ts';
import { median, type Trial } from './report.ts';

const CALLERS = fileURLToPath(new URL('./callers.ts', import.meta.url));
const CLIENTS = 50;
/** What 99 of 100 calls may take, ms. */
const MOST_MS = 5;

/** Single calls: `Prepare` through containerd against its own overlayfs, and many clients at our socket. */
export async function calls(
  lab: Lab,
  place: Place,
  { rounds, quick }: ContainerOptions,
  say: (line: string) => void,
): Promise<Trial> {
  // On the host's own, what others have removed in the last minutes would slow down every directory that is made.
  const home = await freshExt4(lab, place, 'calls');
  const nymph = await startNymph(lab, join(home, 'n'));
  const undo: (() => Promise<void>)[] = [];
  const socket = join(home, 'n', 'snapshotter.sock');
  try {
    const containerd = await testContainerd(
      { after: (clean) => void undo.unshift(clean) },
      join(home, 'c'),
      proxyPlugin('nymph', socket),
    );
    const prepares: number[] = [];
    const late: number[] = [];
    const connecting: number[] = [];
    for (let round = 0; round < rounds; round++) {
      prepares.push(await prepareRatio(containerd, `r${round}`, quick ? 20 : 200));
      const times = await manyClients(socket, quick ? 2 : 10);
      late.push(percentile(Object.values(times.calls).flat(), 0.99) / MOST_MS);
      connecting.push(Math.max(...times.connecting));
      const each = Object.entries(times.calls).map(([name, list]) => `${name} ${percentile(list, 0.99).toFixed(1)}`);
      say(
        `  round ${round + 1}: Prepare ${prepares[round].toFixed(2)} × overlayfs; ${CLIENTS} clients, p99 ` +
          `${(late[round] * MOST_MS).toFixed(1)} ms (${each.join(', ')}), all connected after ${connecting[round].toFixed(0)} ms`,
      );
    }
    return {
      name: 'calls',
      text:
        '**calls**: `Prepare` of an empty layer through containerd, one after another, medians; and 50 clients at once at our socket, each of whom ' +
        'prepares, asks for the mounts, stats, commits, and removes, five calls a second: the 99th percentile over all calls, against 5 ms. The clients ' +
        `are a process of their own, and what they take themselves counts. Each has a connection, which stands before; all ${CLIENTS} at the same ` +
        `moment were connected and answered after ${median(connecting).toFixed(0)} ms.`,
      rows: [
        {
          work: '`Prepare` of a plain layer',
          against: 'overlayfs',
          unit: 'time',
          ratios: prepares,
          goal: { most: 1.2 },
        },
        {
          work: 'calls of 50 clients, 99th percentile',
          against: '5 ms',
          unit: 'time',
          ratios: late,
          goal: { most: 1 },
        },
      ],
    };
  } finally {
    for (const clean of undo) await clean();
    await nymph.stop();
  }
}

/** Median time of a `Prepare` by nymph in those of overlayfs, both through containerd, in turn. */
async function prepareRatio(containerd: TestContainerd, name: string, count: number): Promise<number> {
  const client = snapshotsClient(containerd.address, undefined, 'bench');
  const times: Record<string, number[]> = { nymph: [], overlayfs: [] };
  try {
    for (let i = 0; i < count; i++) {
      for (const snapshotter of i % 2 === 0 ? ['nymph', 'overlayfs'] : ['overlayfs', 'nymph']) {
        const key = `${name}-${i}`;
        const begun = performance.now();
        // Without the label the garbage collection may be faster than we are.
        await client.call('Prepare', { snapshotter, key, labels: { 'containerd.io/gc.root': 'bench' } });
        times[snapshotter].push(performance.now() - begun);
        await client.call('Remove', { snapshotter, key });
      }
    }
  } finally {
    client.close();
  }
  return median(times.nymph) / median(times.overlayfs);
}

async function manyClients(socket: string, turns: number): Promise<CallTimes> {
  // As the daemon's: with the default the clients collect garbage for 10 ms at a time, and calls that meet it wait.
  const options = ['--max-semi-space-size=2', CALLERS];
  const { out } = await run(process.execPath, [...options, socket, String(CLIENTS), String(turns)]);
  return JSON.parse(out) as CallTimes;
}

/** The value below which this share of all values is. */
function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
}
