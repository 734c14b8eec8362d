import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { APP_LAYOUT } from '../test/fixtures.ts';
import type { Lab } from './lab.ts';
import type { Nymph } from './nymph.ts';
import { ended, run } from './processes.ts';
import { type ProxyProcess, spawnProxy } from './proxy.ts';

/** The path that all figures of this project are measured over. */
export const ROUND_TRIP_MS = 10;
export const BITS_PER_SECOND = 1e9;

/** Another image, in every such registry. */
const OTHER = 'other';

export interface Remote {
  /** First part of references: the proxy's host and port. */
  readonly host: string;
  /** Bytes that came over the path so far, headers included. */
  received(): Promise<number>;
}

/**
 * A registry behind a path (of 10 ms and 1 Gbit/s by default), each in a process of its own; both end with the lab.
 * @param layouts OCI layouts by the name of the repository that each is served as
 */
export async function startRemote(
  lab: Lab,
  layouts: Record<string, string>,
  { rtt = ROUND_TRIP_MS, rate = BITS_PER_SECOND }: { rtt?: number; rate?: number } = {},
): Promise<Remote> {
  const port = await startRegistryProcess(lab, { ...layouts, [OTHER]: APP_LAYOUT });
  const proxy: ProxyProcess = await spawnProxy({
    to: { host: '127.0.0.1', port },
    rtt,
    rate,
  });
  lab.later(() => proxy.close());
  return {
    host: `${proxy.host}:${proxy.port}`,
    received: async () => (await proxy.stats()).down,
  };
}

/**
 * Lets a daemon mount another image of the registry, several times: one that runs has done so before, while the engine
 * compiles what a fresh process runs for the first time, which is half of what its first mount takes.
 */
export async function useDaemon(nymph: Nymph, { host }: Remote, directory: string): Promise<void> {
  for (let i = 0; i < 5; i++) {
    await nymph.command('mount', `${host}/${OTHER}:nydus`, directory);
    await run('tar', ['-C', directory, '-cf', '/dev/null', '.']);
    await nymph.command('umount', directory);
    // The kernel lets go of it a moment later.
    for (let left = 1; left > 0; ) {
      await sleep(50);
      await nymph.command('prune', '--all');
      left = JSON.parse(await nymph.command('--json', 'status')).cache.images;
    }
  }
}

async function startRegistryProcess(lab: Lab, layouts: Record<string, string>): Promise<number> {
  const script = fileURLToPath(new URL('../test/registry/main.ts', import.meta.url));
  const args = Object.entries(layouts).flatMap(([name, path]) => ['--layout', `${name}=${path}`]);
  const child = spawn(process.execPath, [script, '--port', '0', ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  lab.later(() => ended(child));
  const line = await new Promise<string>((resolve, reject) => {
    createInterface({ input: child.stdout }).once('line', resolve);
    child.once('error', reject);
    child.once('exit', (code, signal) => reject(new Error(`the registry ended (${code ?? signal})`)));
  });
  return Number(/:(\d+)\//.exec(line)![1]);
}
