/**
 * The real program for tests: `nymph daemon` as a process of its own, with root, socket, configuration and mount points in
 * a directory that goes away with the test, whatever became of the daemon.
 *
 * A test must not touch a mount by itself: its own registry would have to answer meanwhile. `checkTree` (manifest.ts),
 * `startReaders` (readers.ts) and {@link run} are processes of their own.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Health } from '../src/daemon/api.ts';
import { type ControlClient, controlClient } from '../src/daemon/control-client.ts';
import { mount, umount } from '../src/mount/kernel.ts';
import { type MountEntry, parseMounts } from '../src/mount/mountinfo.ts';
import { PROJECT } from './fixtures.ts';

export const NYMPH = join(PROJECT, 'bin', 'nymph');

export interface Outcome {
  status: number | null;
  signal: NodeJS.Signals | null;
  out: Buffer;
  err: string;
  milliseconds: number;
}

export interface TestDaemon {
  /** Holds all that follows; short, because a socket's path is. */
  readonly directory: string;
  readonly root: string;
  readonly address: string;
  readonly client: ControlClient;
  /** Starts it, where it does not run; resolves when it answers. */
  start(): Promise<Health>;
  /** Runs `nymph --json` with this daemon's options. `json` is its document, if it printed one. */
  nymph(...args: string[]): Promise<Outcome & { json: never }>;
  /** An empty directory to mount on. */
  place(name: string): string;
  /** SIGKILL to the daemon, its supervisor, or both in the same instant; resolves when they are gone. */
  kill(...who: ('daemon' | 'supervisor')[]): Promise<void>;
  /** Resolves when a daemon answers that is not process `pid`. */
  another(pid: number): Promise<Health>;
  /** Resolves when the daemon has a living supervisor. */
  supervised(): Promise<Health>;
  /** Lines of the log that have `text` in them by now: it is written behind. */
  logged(text: string): string[];
  /** The same, once there is one. */
  told(text: string): Promise<string[]>;
  /** `nymph daemon --stop`. */
  stop(): Promise<void>;
}

interface Cleaner {
  after(clean: () => Promise<void>): void;
}

/** Why mounts cannot be tested here, or `false`: for the `skip` of tests. */
export function cannotMount(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: it mounts';
  if (!existsSync('/dev/fuse')) return 'needs /dev/fuse';
  const [major, minor] = release().split('.').map(Number);
  if (major < 6 || (major === 6 && minor < 12)) return `needs Linux 6.12 for EROFS over files; this is ${release()}`;
  return false;
}

/** @param options `toml`: configuration besides `root` and `address`; `env`: of the daemon and its supervisor */
export async function testDaemon(
  t: Cleaner,
  options: { toml?: string; root?: string; start?: boolean; env?: Record<string, string> } = {},
): Promise<TestDaemon> {
  const directory = realpathSync(mkdtempSync('/tmp/nymph-'));
  const root = options.root ?? join(directory, 'r');
  const address = join(directory, 'c.sock');
  const config = join(directory, 'config.toml');
  const log = join(directory, 'log');
  const client = controlClient(address);
  let supervisor: ChildProcess | undefined;
  writeFileSync(
    config,
    `root = "${root}"\naddress = "${address}"\n${options.toml ?? ''}\n[log]\nlevel = "debug"\nformat = "json"\n`,
  );

  const daemon: TestDaemon = {
    directory,
    root,
    address,
    client,
    async start() {
      const before = await client.health().catch(() => undefined);
      if (before !== undefined) return before;
      const child = spawn('/bin/sh', ['-c', `exec "$0" "$@" >>"${log}" 2>&1`, NYMPH, '--config', config, 'daemon'], {
        stdio: 'ignore',
        env: { ...process.env, ...options.env },
      });
      supervisor = child;
      return until(60_000, 'the daemon does not answer', async () => {
        if (child.exitCode !== null) throw new Error(`the daemon ended with ${child.exitCode}: ${tail(log)}`);
        return client.health();
      });
    },
    async nymph(...args) {
      const outcome = await run(NYMPH, ['--config', config, '--json', ...args]);
      let json: unknown;
      if (outcome.out.length > 0) json = JSON.parse(outcome.out.toString());
      return { ...outcome, json: json as never };
    },
    place(name) {
      const path = join(directory, name);
      mkdirSync(path, { recursive: true });
      return path;
    },
    async kill(...who) {
      const health = await client.health();
      const pids = who.map((one) => (one === 'daemon' ? health.pid : (health.supervisor ?? supervisor!.pid!)));
      // Each would start another one in the place of the first to die.
      for (const signal of ['SIGSTOP', 'SIGKILL'] as const) for (const pid of pids) process.kill(pid, signal);
      for (const pid of pids)
        await until(10_000, `process ${pid} does not die: ${where(pid)}`, async () => !isAlive(pid) || undefined);
    },
    async another(pid) {
      return until(60_000, 'no other daemon answers', async () => {
        const now = await client.health();
        return now.pid === pid ? undefined : now;
      });
    },
    supervised() {
      return until(60_000, 'no supervisor', async () => {
        const now = await client.health();
        // It may not have noticed yet that the last one is gone: to kill it then is to kill both.
        return now.supervisor !== undefined && isAlive(now.supervisor) ? now : undefined;
      });
    },
    logged(text) {
      if (!existsSync(log)) return [];
      return readFileSync(log, 'utf8')
        .split('\n')
        .filter((line) => line.includes(text));
    },
    told(text) {
      return until(10_000, `the log has no ${text}`, async () => {
        const lines = daemon.logged(text);
        return lines.length > 0 ? lines : undefined;
      });
    },
    async stop() {
      const { status, err } = await daemon.nymph('daemon', '--stop');
      if (status !== 0) throw new Error(`daemon --stop: ${err}`);
    },
  };

  t.after(async () => {
    await killAll(config);
    await clearMounts(directory);
    if (process.env.NYMPH_KEEP !== undefined) return;
    rmSync(directory, { recursive: true, force: true });
  });
  if (options.start !== false) await daemon.start();
  return daemon;
}

/** Mounts at or below a directory, in the order they were made. */
export function mountsBelow(directory: string): MountEntry[] {
  return parseMounts(readFileSync('/proc/self/mountinfo', 'utf8')).filter(
    (entry) => entry.directory === directory || entry.directory.startsWith(`${directory}/`),
  );
}

/** Takes away what is mounted below a directory. FUSE connections are aborted first, so that no reader hangs. */
export async function clearMounts(directory: string): Promise<void> {
  for (const entry of mountsBelow(directory)) if (entry.type === 'fuse') await abortFuse(directory, entry);
  for (const entry of mountsBelow(directory).reverse()) await umount(entry.directory, true);
}

/**
 * Ends a FUSE connection, as an administrator can: its readers get errors.
 * @param directory where the kernel's controls are mounted for it, if they are nowhere
 * @returns false if the kernel has no such control
 */
export async function abortFuse(directory: string, { device }: MountEntry): Promise<boolean> {
  let control = '/sys/fs/fuse/connections';
  if (!existsSync(control) || readdirSync(control).length === 0) {
    control = join(directory, 'fusectl');
    mkdirSync(control, { recursive: true });
    if ((await mount('none', control, 'fusectl', 0, '')) !== undefined) return false;
  }
  const abort = join(control, device.split(':')[1], 'abort');
  if (!existsSync(abort)) return false;
  writeFileSync(abort, '1');
  return true;
}

/** Runs a program to its end, or kills it after `timeout` ms (default 120 s). */
export function run(
  command: string,
  args: readonly string[],
  options: { timeout?: number; env?: NodeJS.ProcessEnv; input?: string } = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const begun = performance.now();
    const child = spawn(command, args, {
      stdio: ['pipe', 'pipe', 'pipe'],
      timeout: options.timeout ?? 120_000,
      killSignal: 'SIGKILL',
      env: { ...process.env, NO_COLOR: '1', ...options.env },
    });
    const out: Buffer[] = [];
    let err = '';
    child.stdin.end(options.input);
    child.stdout.on('data', (data: Buffer) => out.push(data));
    child.stderr.on('data', (data: Buffer) => (err += data));
    child.once('error', reject);
    child.once('close', (status, signal) =>
      resolve({ status, signal, out: Buffer.concat(out), err, milliseconds: performance.now() - begun }),
    );
  });
}

/** Asks until there is an answer; what it throws counts as none, but the last is told at the end. */
export async function until<T>(limit: number, what: string, ask: () => Promise<T | undefined>): Promise<T> {
  const end = Date.now() + limit;
  for (let last: unknown; ; ) {
    try {
      const answer = await ask();
      if (answer !== undefined) return answer;
      last = undefined;
    } catch (error) {
      last = error;
    }
    if (Date.now() > end) throw new Error(what, { cause: last });
    await sleep(10);
  }
}

/** False also for a process that has ended and was not waited for. */
export function isAlive(pid: number): boolean {
  // A dead leader with living threads is a zombie too, so they are asked one by one.
  return threadsOf(pid).some((thread) => {
    const state = stateOf(pid, thread);
    return state !== undefined && state !== 'Z' && state !== 'X';
  });
}

function threadsOf(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

/** undefined for a thread that has ended since it was listed: that says nothing of the others. */
function stateOf(pid: number, thread: string): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/task/${thread}/stat`, 'latin1');
    return text.slice(text.lastIndexOf(')') + 2, text.lastIndexOf(')') + 3);
  } catch {
    return undefined;
  }
}

/** Living processes that have a text among their arguments. */
export function processesWith(text: string): number[] {
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  return pids.filter((pid) => pid !== process.pid && hasArgument(pid, text) && isAlive(pid));
}

/** Daemon and supervisor start each other again, so they are stopped before they are killed. */
async function killAll(config: string): Promise<void> {
  await until(10_000, `processes with ${config} do not die`, async () => {
    const pids = processesWith(config);
    for (const signal of ['SIGSTOP', 'SIGKILL'] as const)
      for (const pid of pids)
        try {
          process.kill(pid, signal);
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
        }
    return pids.length === 0 || undefined;
  });
}

function hasArgument(pid: number, text: string): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1').includes(text);
  } catch {
    return false;
  }
}

/** What the kernel says a process waits in, for messages. */
function where(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/stack`, 'latin1').split('\n').slice(0, 4).join(' < ');
  } catch {
    return 'gone';
  }
}

function tail(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8').slice(-2000) : '';
}
