/** What goes wrong on a node, one thing after another. */
import { setTimeout as sleep } from 'node:timers/promises';
import { count, type Tally } from './tally.ts';
import type { Losses } from './work.ts';
import { containerdPid, type World } from './world.ts';

/** Between two of them, ms. */
const PAUSE_MS = [1_000, 4_000];
/** A stopped or absent process stays so at most this long, ms. */
const AWAY_MS = 4_000;

export async function killThings(
  world: World,
  tally: Tally,
  losses: Losses,
  { random, signal }: { random: () => number; signal: AbortSignal },
): Promise<void> {
  const oneOf = <T>(list: readonly T[]): T => list[Math.floor(random() * list.length)];
  const away = () => sleep(random() * AWAY_MS);
  const nymph = () => world.daemon.client.health();

  const stopped = async (pid: number | undefined) => {
    if (pid === undefined || !send(pid, 'SIGSTOP')) return;
    await away();
    send(pid, 'SIGCONT');
  };
  const kills: Record<string, [weight: number, kill: () => Promise<unknown>]> = {
    'kill daemon': [4, async () => send((await nymph()).pid, 'SIGKILL')],
    'kill supervisor': [4, async () => send((await nymph()).supervisor, 'SIGKILL')],
    'kill supervisor, then daemon': [
      3,
      async () => {
        const { pid, supervisor } = await nymph();
        send(supervisor, 'SIGKILL');
        await sleep(20 + random() * 500);
        send(pid, 'SIGKILL');
      },
    ],
    'kill daemon, then supervisor': [
      2,
      async () => {
        const { pid, supervisor } = await nymph();
        send(pid, 'SIGKILL');
        await sleep(200 + random() * 800);
        // The next daemon may be just starting: whoever is there last has the connection.
        send(supervisor, 'SIGKILL');
      },
    ],
    'kill both at once': [
      1,
      async () => {
        const { pid, supervisor } = await nymph();
        if (supervisor === undefined) return;
        losses.count++;
        for (const name of ['SIGSTOP', 'SIGKILL'] as const) for (const one of [pid, supervisor]) send(one, name);
      },
    ],
    upgrade: [3, () => world.daemon.nymph('upgrade', '--within', '1m')],
    'kill supervisor in an upgrade': [
      2,
      async () => {
        const { supervisor } = await nymph();
        const upgrade = world.daemon.nymph('upgrade', '--within', '1m');
        await sleep(random() * 2_000);
        send(supervisor, 'SIGKILL');
        await upgrade;
      },
    ],
    'stop daemon': [2, async () => stopped((await nymph()).pid)],
    'stop supervisor': [1, async () => stopped((await nymph()).supervisor)],
    'kill containerd': [
      2,
      async () => {
        send(containerdPid(world), 'SIGKILL');
        await away();
        await world.containerdUp();
      },
    ],
    'stop containerd': [1, () => stopped(containerdPid(world))],
    'kill registry': [
      2,
      async () => {
        send(world.registry.pid(), 'SIGKILL');
        await away();
        world.registry.start();
      },
    ],
    'stop registry': [2, () => stopped(world.registry.pid())],
  };
  const wheel = Object.entries(kills).flatMap(([key, [weight]]) => Array<string>(weight).fill(key));

  while (!signal.aborted) {
    await sleep(PAUSE_MS[0] + random() * (PAUSE_MS[1] - PAUSE_MS[0]));
    const chosen = oneOf(wheel);
    try {
      await kills[chosen][1]();
      count(tally.kills, chosen);
    } catch {
      // Nobody said who is to be killed, because the daemon was away: the next one is tried.
    }
  }
}

function send(pid: number | undefined, signal: NodeJS.Signals): boolean {
  try {
    return pid !== undefined && process.kill(pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ESRCH') return false;
    throw error;
  }
}
