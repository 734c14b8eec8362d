/**
 * Clients of a snapshotter's socket, in a process of their own: what they and the rest of a measurement do must not wait
 * for each other.
 *
 *   node bench/callers.ts SOCKET CLIENTS TURNS
 *
 * Each client has a connection of its own, which stands before its first call, as containerd's does. It prepares, asks for
 * the mounts, stats, commits and removes, `TURNS` times, five calls a second. Prints a `CallTimes` as JSON.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { status } from '@grpc/grpc-js';
import { type SnapshotsClient, snapshotsClient } from '../test/snapshots.ts';

export interface CallTimes {
  /** Of each call by its method, ms. What the client itself takes is part of it. */
  calls: Record<string, number[]>;
  /** Of each client's connection and first answer, all at the same moment, ms. */
  connecting: number[];
}

const PAUSE_MS = 200;

const [socket, count, turns] = process.argv.slice(2);
const clients = Array.from({ length: Number(count) }, () => snapshotsClient(socket));
const calls: CallTimes['calls'] = {};
const connecting = await Promise.all(clients.map(greet));
await Promise.all(clients.map(work));
for (const client of clients) client.close();
process.stdout.write(JSON.stringify({ calls, connecting } satisfies CallTimes));

async function greet(client: SnapshotsClient): Promise<number> {
  const begun = performance.now();
  await client.call('Stat', { key: 'nothing' }).catch((error) => {
    if (error.code !== status.NOT_FOUND) throw error;
  });
  return performance.now() - begun;
}

async function work(client: SnapshotsClient, index: number): Promise<void> {
  const timed = async (method: string, request: object) => {
    await sleep(PAUSE_MS * (0.5 + Math.random()));
    const begun = performance.now();
    await client.call(method, request);
    calls[method] ??= [];
    calls[method].push(performance.now() - begun);
  };
  for (let turn = 0; turn < Number(turns); turn++) {
    // Unique also beside those of another run.
    const key = `bench/${process.pid}-${index}-${turn}/active`;
    const committed = `bench/${process.pid}-${index}-${turn}/committed`;
    await timed('Prepare', { key });
    await timed('Mounts', { key });
    await timed('Stat', { key });
    await timed('Commit', { key, name: committed });
    await timed('Remove', { key: committed });
  }
}
