/** What goes wrong around and within a node. Two at a time: one of the network, one of the node. No read may fail of it. */
import { rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { count } from '../chaos/tally.ts';
import type { DfdaemonFaults } from '../dfdaemon/faults.ts';
import type { Faults } from '../registry/faults.ts';
import type { SoakNode } from './node.ts';
import type { SoakTally } from './tally.ts';

const PAUSE_MS = [1_000, 4_000];
const STOPPED_MS = 30_000;
const MIB = 1 << 20;

type Fault = (random: () => number) => Promise<unknown>;

/** Injects until `signal`; then all is as it was. */
export async function injectFaults(
  node: SoakNode,
  tally: SoakTally,
  { random, signal }: { random: () => number; signal: AbortSignal },
): Promise<void> {
  const lane = async (kinds: Record<string, [weight: number, fault: Fault]>) => {
    const wheel = Object.entries(kinds).flatMap(([key, [weight]]) => Array<string>(weight).fill(key));
    while (!signal.aborted) {
      await sleep(PAUSE_MS[0] + random() * (PAUSE_MS[1] - PAUSE_MS[0]));
      const chosen = wheel[Math.floor(random() * wheel.length)];
      const begun = timeOfDay();
      const line = tally.timeline.push(`from ${begun} on: ${chosen}`) - 1;
      try {
        await kinds[chosen][1](random);
        tally.timeline[line] = `${begun} to ${timeOfDay()}: ${chosen}`;
        count(tally.faults, chosen);
      } catch (error) {
        // What is to be killed may be away just then: the next one is tried.
        count(tally.failures, `injecting ${chosen}: ${(error as Error).message.slice(0, 80)}`);
      }
    }
  };
  await Promise.all([lane(network(node)), lane(inside(node, tally))]);
}

function timeOfDay(): string {
  return new Date().toISOString().slice(11, 19);
}

/** Of the registry and of Dragonfly. Wrong bytes come so seldom that one of the tries of a read has them right. */
function network({ registry, dfdaemon }: SoakNode): Record<string, [number, Fault]> {
  const during =
    (faults: Faults, seconds: number): Fault =>
    async (random) => {
      Object.assign(registry.faults, structuredClone(faults));
      await sleep(1_000 + random() * seconds * 1_000);
      for (const key of Object.keys(faults) as (keyof Faults)[]) delete registry.faults[key];
      registry.faults.latency = 5;
    };
  const peers =
    (faults: DfdaemonFaults): Fault =>
    async (random) => {
      Object.assign(dfdaemon.current.faults, structuredClone(faults));
      await sleep(2_000 + random() * 4_000);
      for (const key of Object.keys(faults) as (keyof DfdaemonFaults)[]) delete dfdaemon.current.faults[key];
    };
  return {
    'registry: stalls in mid-answer': [2, during({ blob: { kind: 'stall', after: 5_000 } }, 12)],
    'registry: cuts answers': [2, during({ blob: { kind: 'cut', after: 20_000 } }, 8)],
    'registry: hangs up': [1, during({ blob: { kind: 'hang-up' } }, 10)],
    'registry: 503': [2, during({ status: { code: 503, on: 'blob' } }, 10)],
    'registry: 429, later': [1, during({ status: { code: 429, retryAfter: '1', on: 'blob' } }, 5)],
    'registry: wrong bytes': [2, during({ blob: { kind: 'bit-flip', times: 3 } }, 3)],
    'registry: another range': [1, during({ blob: { kind: 'other-range', times: 3 } }, 3)],
    'registry: too few bytes': [1, during({ blob: { kind: 'short', by: 100, times: 3 } }, 3)],
    'registry: slow': [2, during({ latency: 800, bandwidth: 512 << 10 }, 10)],
    'dragonfly: stalls': [1, peers({ stall: { after: 1 } })],
    'dragonfly: wrong bytes': [1, peers({ flip: { piece: 1 } })],
    'dragonfly: pieces are missing': [1, peers({ missing: { pieces: 2 } })],
    'dragonfly: fails': [1, peers({ status: { code: 13, details: 'internal' } })],
    'dragonfly: gone for a while': [
      1,
      async (random) => {
        dfdaemon.current.kill();
        await sleep(1_000 + random() * 5_000);
        await dfdaemon.start();
      },
    ],
  };
}

function inside(node: SoakNode, tally: SoakTally): Record<string, [number, Fault]> {
  const { daemon, clock, cgroup, disk } = node;
  const stopped = async (pid: number | undefined) => {
    if (pid === undefined) throw new Error('no such process');
    process.kill(pid, 'SIGSTOP');
    await sleep(STOPPED_MS);
    process.kill(pid, 'SIGCONT');
  };
  // Both at once would lose the connection: each is killed only while the other watches.
  const killed = async (who: 'pid' | 'supervisor') => {
    const health = await daemon.supervised();
    process.kill(health[who]!, 'SIGKILL');
  };
  const faults: Record<string, [number, Fault]> = {
    'kill -9 daemon': [4, () => killed('pid')],
    'kill -9 supervisor': [3, () => killed('supervisor')],
    'SIGSTOP daemon, 30 s': [1, async () => stopped((await daemon.supervised()).pid)],
    'SIGSTOP supervisor, 30 s': [1, async () => stopped((await daemon.supervised()).supervisor)],
    'disk full': [
      3,
      async (random) => {
        const { bavail, bsize } = statfsSync(disk);
        const ballast = join(disk, 'ballast');
        try {
          writeFileSync(ballast, Buffer.alloc(Math.max(0, bavail * bsize - random() * MIB), 1));
        } catch (error) {
          // The daemon was faster with the last blocks.
          if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
        }
        await sleep(5_000 + random() * 8_000);
        rmSync(ballast, { force: true });
      },
    ],
  };
  if (clock) {
    const jumps = [3_600, -3_600, 86_400, -86_400, 30 * 86_400, 0];
    faults['clock jump'] = [4, async (random) => clock(jumps[Math.floor(random() * jumps.length)])];
  } else tally.unavailable['clock jump'] = 'not installed: libfaketime';
  if ('why' in cgroup) tally.unavailable['memory pressure'] = cgroup.why;
  else
    faults['memory pressure'] = [
      3,
      async (random) => {
        try {
          cgroup.limit(cgroup.used() + (8 + random() * 40) * MIB);
          await sleep(4_000 + random() * 8_000);
        } finally {
          cgroup.limit(undefined);
        }
      },
    ];
  return faults;
}
