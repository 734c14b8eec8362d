/** Real containerd for tests: as a process of its own, with root, state and socket in a directory that goes away. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { answers } from '../src/daemon/socket.ts';
import { clearMounts, until } from './daemon.ts';

export interface TestContainerd {
  readonly directory: string;
  readonly address: string;
  readonly version: string;
  /** Its configuration file; the next start reads it. */
  readonly config: string;
  log(): string;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Why containerd cannot be tested here, or `false`. */
export function noContainerd(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: containerd mounts';
  return spawnSync('containerd', ['--version']).error ? 'not installed: containerd' : false;
}

/**
 * Starts the containerd that is on the PATH.
 * @param directory short: a socket's path is
 * @param toml its configuration, without root, state and addresses
 */
export async function testContainerd(
  t: { after(clean: () => Promise<void>): void },
  directory: string,
  toml: string,
): Promise<TestContainerd> {
  const config = join(directory, 'containerd.toml');
  const address = join(directory, 'containerd.sock');
  mkdirSync(directory, { recursive: true });
  writeFileSync(config, toml);
  const said: string[] = [];
  let child: ChildProcess | undefined;

  const containerd: TestContainerd = {
    directory,
    address,
    config,
    version: /\bv?(\d+\.\d+\.\d+)/.exec(spawnSync('containerd', ['--version']).stdout.toString())?.[1] ?? '',
    log: () => said.join(''),
    async start() {
      const args = ['--config', config, '--address', address];
      args.push('--root', join(directory, 'root'), '--state', join(directory, 'state'));
      const started = spawn('containerd', args, { stdio: ['ignore', 'ignore', 'pipe'] });
      child = started;
      started.stderr.on('data', (text) => said.push(String(text)));
      await until(30_000, 'containerd does not start', async () => {
        if (started.exitCode !== null) throw new Error(`containerd ended: ${said.slice(-5).join('')}`);
        return (await answers(address)) || undefined;
      });
    },
    async stop() {
      if (!child || child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((resolve) => child!.once('exit', resolve));
      child.kill('SIGTERM');
      await ended;
    },
  };
  t.after(async () => {
    await containerd.stop();
    await clearMounts(directory);
  });
  await containerd.start();
  return containerd;
}
