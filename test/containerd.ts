/** Real containerd for tests: as a process of its own, with root, state and socket in a directory that goes away. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { answers } from '../src/daemon/socket.ts';
import { clearMounts, type Outcome, run, until } from './daemon.ts';

export interface TestContainerd {
  readonly directory: string;
  readonly address: string;
  readonly version: string;
  /** Its configuration file; the next start reads it. */
  readonly config: string;
  log(): string;
  start(): Promise<void>;
  stop(): Promise<void>;
  /** SIGKILL to it; what it runs lives on. */
  kill(): Promise<void>;
  /** Runs `ctr` against it, in namespace `default` unless the arguments say otherwise. */
  ctr(...args: string[]): Promise<Outcome>;
  /** The standard output of a `ctr` that succeeds. */
  good(...args: string[]): Promise<string>;
}

export interface ContainerdOptions {
  /** Directory with `containerd`, `ctr` and the shim; else they are on the PATH. */
  programs?: string;
}

/**
 * Where to look for containerds that all tests with clients run on: the PATH, and the directories that NYMPH_CONTAINERD
 * names (`bin` of containerd 2.x, say), separated by colons.
 */
export const INSTALLS: readonly string[] = ['', ...(process.env.NYMPH_CONTAINERD ?? '').split(':').filter(Boolean)];

/** Why containerd cannot be tested here, or `false`. */
export function noContainerd(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: containerd mounts';
  return spawnSync('containerd', ['--version']).error ? 'not installed: containerd' : false;
}

/** Version of its configuration that a containerd takes. @param programs directory of its programs; empty for the PATH */
export function configVersion(programs: string): 2 | 3 {
  const { stdout } = spawnSync(join(programs, 'containerd'), ['--version'], { encoding: 'utf8' });
  return / v?1\./.test(stdout) ? 2 : 3;
}

/** Lines of configuration, as docs/containerd.md has them, for a snapshotter `name` on a socket, beside overlayfs. */
export function proxyPlugin(name: string, address: string, version: 2 | 3 = 2): string {
  const plugin = `[proxy_plugins.${name}]\n  type = "snapshot"\n  address = "${address}"\n  capabilities = ["remap-ids"]\n`;
  if (version === 2) return `version = 2\n${plugin}`;
  const unpack = ['overlayfs', name].map(
    (snapshotter) =>
      `[[plugins."io.containerd.transfer.v1.local".unpack_config]]\n  platform = "linux"\n  snapshotter = "${snapshotter}"\n`,
  );
  return `version = 3\n${plugin}${unpack.join('')}`;
}

/**
 * Configuration of containerd 1.x for pods: CRI says which image a layer belongs to.
 * @param names of plugins on the snapshotter's socket, the first for CRI
 */
export function criConfig(socket: string, pause: string, names: string[] = ['nymph']): string {
  const plugins = names.map((name) => `[proxy_plugins.${name}]\n  type = "snapshot"\n  address = "${socket}"\n`);
  return `version = 2
${plugins.join('')}[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "${pause}"
  restrict_oom_score_adj = true
  disable_tcp_service = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "${names[0]}"
    disable_snapshot_annotations = false
`;
}

/**
 * Starts a containerd.
 * @param directory short: a socket's path is
 * @param toml its configuration, without root, state and addresses
 */
export async function testContainerd(
  t: { after(clean: () => Promise<void>): void },
  directory: string,
  toml: string,
  { programs }: ContainerdOptions = {},
): Promise<TestContainerd> {
  const env = { ...process.env, ...(programs && { PATH: `${programs}:${process.env.PATH}` }) };
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
    version: /\bv?(\d+\.\d+\.\d+)/.exec(spawnSync('containerd', ['--version'], { env }).stdout.toString())?.[1] ?? '',
    log: () => said.join(''),
    async start() {
      const args = ['--config', config, '--address', address];
      args.push('--root', join(directory, 'root'), '--state', join(directory, 'state'));
      const started = spawn('containerd', args, { stdio: ['ignore', 'ignore', 'pipe'], env });
      child = started;
      started.stderr.on('data', (text) => said.push(String(text)));
      await until(30_000, 'containerd does not start', async () => {
        if (started.exitCode !== null) throw new Error(`containerd ended: ${said.slice(-5).join('')}`);
        return (await answers(address)) || undefined;
      });
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    ctr: (...args) => run('ctr', ['--address', address, ...args], { env }),
    async good(...args) {
      const { status, out, err } = await containerd.ctr(...args);
      if (status !== 0) throw new Error(`ctr ${args.join(' ')}: ${err}`);
      return out.toString();
    },
  };

  async function end(signal: NodeJS.Signals): Promise<void> {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => child!.once('exit', resolve));
    child.kill(signal);
    await ended;
  }

  t.after(async () => {
    await endTasks(containerd);
    await containerd.stop();
    await clearMounts(directory);
  });
  await containerd.start();
  return containerd;
}

/** Ends what still runs: its shims would outlive us, and their names are taken for every containerd of the machine. */
async function endTasks(containerd: TestContainerd): Promise<void> {
  // A test that removes the directory first has nothing running.
  if (!existsSync(containerd.config)) return;
  if (!(await answers(containerd.address))) await containerd.start();
  const names = async (...args: string[]) => (await containerd.good(...args, 'ls', '-q')).split('\n').filter(Boolean);
  for (const namespace of await names('namespaces'))
    for (const id of await names('-n', namespace, 'tasks')) {
      await containerd.ctr('-n', namespace, 'tasks', 'kill', '--all', '--signal', 'SIGKILL', id);
      await containerd.ctr('-n', namespace, 'tasks', 'delete', '--force', id);
    }
}
