/** A real systemd for tests: first process of namespaces of its own, with only our units. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Outcome, run, until } from '../daemon.ts';

export interface Systemd {
  /** What a command begins with that shall run inside. */
  readonly inside: readonly string[];
  /** Runs a program inside. */
  run(...command: string[]): Promise<Outcome>;
  /** `systemctl`. @throws Error if it fails */
  systemctl(...args: string[]): Promise<string>;
  /** A property of a unit. */
  property(unit: string, name: string): Promise<string>;
}

/** Why there can be none here, or `false`. */
export function cannotBoot(): string | false {
  if (process.getuid?.() !== 0) return 'needs root: it boots systemd in namespaces';
  if (!existsSync('/lib/systemd/systemd')) return 'needs systemd (Debian: systemd)';
  if (spawnSync('unshare', ['--cgroup', '--pid', '--mount', '--fork', 'true']).status !== 0)
    return 'needs namespaces, which this machine refuses';
  return false;
}

/**
 * @param units texts by path below /etc/systemd/system; those that shall run are wanted by `test.target`
 * @param files `own`: what is changed outside of `directory` is lost in the end
 */
export async function bootSystemd(
  t: { after(clean: () => Promise<void>): void },
  directory: string,
  units: Record<string, string>,
  files: '' | 'own' = '',
): Promise<Systemd> {
  const at = join(directory, 'systemd');
  mkdirSync(join(at, 'group'), { recursive: true });
  for (const [path, text] of Object.entries(units)) {
    mkdirSync(join(at, 'units', path, '..'), { recursive: true });
    writeFileSync(join(at, 'units', path), text);
  }
  const script = fileURLToPath(new URL('boot.sh', import.meta.url));
  const child = spawn('unshare', ['--mount', 'sh', script, at, files], { stdio: ['pipe', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (data: Buffer) => (said += data));
  const ended = new Promise((resolve) => child.once('close', resolve));
  t.after(async () => {
    child.stdin.end();
    await ended;
  });
  const first = await until(30_000, 'systemd does not start', async () => {
    if (child.exitCode !== null) throw new Error(said);
    const unshare = readFileSync(join(at, 'unshare'), 'utf8').trim();
    return readFileSync(`/proc/${unshare}/task/${unshare}/children`, 'utf8').trim() || undefined;
  });
  const inside = ['nsenter', `--target=${first}`, '--mount', '--pid', '--cgroup', '--root', '--wd', '--'];
  const systemd: Systemd = {
    inside,
    run: (...command) => run(inside[0], [...inside.slice(1), ...command]),
    async systemctl(...args) {
      const { status, out, err } = await systemd.run('systemctl', '--no-pager', ...args);
      if (status !== 0) throw new Error(`systemctl ${args.join(' ')}: ${err}${said.slice(-2000)}`);
      return out.toString().trim();
    },
    property: (unit, name) => systemd.systemctl('show', '--value', '--property', name, unit),
  };
  await until(60_000, `systemd does not answer: ${said}`, () => systemd.systemctl('show', '--property', 'Version'));
  return systemd;
}
