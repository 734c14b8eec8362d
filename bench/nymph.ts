import { spawn } from 'node:child_process';
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { controlClient } from '../src/daemon/control-client.ts';
import type { Lab } from './lab.ts';
import { ended, run } from './processes.ts';

/** The program as people start it. */
export const NYMPH = fileURLToPath(new URL('../bin/nymph', import.meta.url));

/** A daemon with a cache of its own, and the command line that speaks to it: by `bin/nymph`, as people start it. */
export interface Nymph {
  /** Process of the supervisor. */
  readonly pid: number;
  /** Runs one command. @returns its standard output. @throws Error with what it said */
  command(...args: string[]): Promise<string>;
  /** Ends the daemon and its supervisor. */
  stop(): Promise<void>;
}

/**
 * Starts a daemon with an empty cache; returns when it answers. It ends with the lab at the latest.
 * @param home directory of its files, made if need be; short, because the socket is in it
 * @param preload module that its processes and threads load first
 * @param toml configuration besides that
 */
export async function startNymph(
  lab: Lab,
  home: string,
  {
    driver = 'kernel',
    preload,
    toml = '',
  }: { driver?: 'kernel' | 'fuse-native'; preload?: string; toml?: string } = {},
): Promise<Nymph> {
  await mkdir(home, { recursive: true });
  const address = join(home, 'control.sock');
  const config = join(home, 'config.toml');
  await writeFile(config, toml);
  const options = ['--config', config, '--root', join(home, 'root'), '--address', address, '--driver', driver];
  const logFile = join(home, 'daemon.log');
  await using log = await open(logFile, 'a');
  // A session of its own: Ctrl-C on the terminal must not end it before its mounts are gone.
  const env = preload === undefined ? process.env : { ...process.env, NODE_OPTIONS: `--import=${preload}` };
  const child = spawn(NYMPH, [...options, 'daemon'], { detached: true, stdio: ['ignore', log.fd, log.fd], env });
  const ending = new AbortController();
  const running = new Set<Promise<unknown>>();
  const stop = async () => {
    // Commands first: `nymph mount` would start another daemon.
    ending.abort();
    await Promise.allSettled(running);
    await ended(child);
  };
  lab.later(stop);
  const client = controlClient(address);
  for (;;) {
    const answer = await client.health().catch(() => undefined);
    if (answer !== undefined) break;
    if (child.exitCode !== null || child.signalCode !== null)
      throw new Error(`the daemon ended:\n${await readFile(logFile, 'utf8')}`);
    await sleep(10);
  }
  return {
    pid: child.pid!,
    command: async (...args) => {
      if (ending.signal.aborted) throw new Error('the daemon is being stopped');
      const finished = run(NYMPH, [...options, ...args], { signal: ending.signal });
      running.add(finished);
      return (await finished.finally(() => running.delete(finished))).out.trimEnd();
    },
    stop,
  };
}
