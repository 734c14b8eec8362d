/** A real Dragonfly on loopback, by the script that comes with the shared set: a scheduler, a seed and two peers. */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { PROJECT } from '../fixtures.ts';

const SCRIPT = join(process.env.NYMPH_SHARED ?? join(PROJECT, '..', 'shared'), 'tools', 'dragonfly-cluster.sh');

export interface Cluster {
  readonly directory: string;
  /** Sockets of the two peers. */
  readonly sockets: [string, string];
  stop(): void;
  pid(part: 'scheduler' | 'seed-1' | 'peer-1' | 'peer-2'): number;
  /** Ends a daemon as a package's upgrade does, and starts it again with the same files; resolves when it listens. */
  restart(part: 'seed-1' | 'peer-1' | 'peer-2'): Promise<void>;
  /** Bytes that one part has got, by where from, from its own metrics. */
  traffic(part: 'seed-1' | 'peer-1' | 'peer-2'): Promise<Record<string, number>>;
}

/** Why there can be none here, or `false`. */
export function noCluster(): string | false {
  if (!existsSync(SCRIPT)) return `no dragonfly-cluster.sh (NYMPH_SHARED): ${SCRIPT}`;
  const missing = ['scheduler', 'dfdaemon'].filter((name) => spawnSync('which', [name]).status !== 0);
  return missing.length > 0 && `not on PATH: ${missing.join(', ')} (Dragonfly 2.5.1 and its client 1.5)`;
}

const METRICS = { 'seed-1': 7002, 'peer-1': 7102, 'peer-2': 7202 };
const MOST_START = 60_000;
/** Peers learn of the seed at the scheduler's next look. */
const SEED_KNOWN = 40_000;

/** @param origin the registry, for the proxies */
export async function startCluster(after: (clean: () => void) => void, origin: string): Promise<Cluster> {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-cluster-'));
  const stop = () => {
    spawnSync('bash', [SCRIPT, 'stop', directory]);
    rmSync(directory, { recursive: true, force: true });
  };
  after(stop);
  const started = spawnSync('bash', [SCRIPT, 'start', directory, origin], { encoding: 'utf8', timeout: 60_000 });
  if (started.status !== 0) throw new Error(`the cluster does not start: ${started.stderr}`);
  const sockets = ['peer-1', 'peer-2'].map((name) => join(directory, name, 'dfdaemon.sock')) as [string, string];
  // The script does not wait for long, and a busy machine is slow.
  for (const end = Date.now() + MOST_START; !sockets.every((socket) => existsSync(socket)); await sleep(100)) {
    if (Date.now() < end) continue;
    const logs = ['peer-1', 'peer-2'].map((name) => readFileSync(join(directory, `${name}.log`), 'utf8').slice(-1_000));
    throw new Error(`a dfdaemon does not start:\n${logs.join('\n')}`);
  }
  await sleep(SEED_KNOWN);
  return {
    directory,
    sockets,
    stop,
    pid: (part) => Number(readFileSync(join(directory, `${part}.pid`), 'utf8')),
    async restart(part) {
      const file = (name: string) => join(directory, name);
      const pid = Number(readFileSync(file(`${part}.pid`), 'utf8'));
      // It may have been killed before.
      if (existsSync(`/proc/${pid}`)) process.kill(pid, 'SIGTERM');
      while (existsSync(`/proc/${pid}`) && !isZombie(pid)) await sleep(20);
      const socket = join(directory, part, 'dfdaemon.sock');
      rmSync(socket, { force: true });
      const log = openSync(file(`${part}.log`), 'a');
      const options = ['--config', file(`${part}.yaml`), '--dynconfig', file('dyn.yaml')];
      const next = spawn('dfdaemon', [...options, '--log-dir', join(directory, part, 'log'), '--console'], {
        detached: true,
        stdio: ['ignore', log, log],
      });
      next.unref();
      closeSync(log);
      writeFileSync(file(`${part}.pid`), `${next.pid}`);
      while (!existsSync(socket)) await sleep(20);
    },
    async traffic(part) {
      const text = await (await fetch(`http://127.0.0.1:${METRICS[part]}/metrics`)).text();
      const rows = text.matchAll(/^dragonfly_client_download_traffic\{[^}]*type="([^"]+)"[^}]*\} ([\d.e+]+)$/gm);
      const found: Record<string, number> = {};
      for (const [, type, value] of rows) found[type] = (found[type] ?? 0) + Number(value);
      return found;
    },
  };
}

/** One whose parent has gone may never be waited for. */
function isZombie(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1].startsWith('Z');
  } catch {
    return true;
  }
}
