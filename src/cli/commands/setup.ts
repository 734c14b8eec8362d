import { unifiedDiff } from '../../containerd/diff.ts';
import type { Wanted } from '../../containerd/plan.ts';
import { prepareSetup, writeSetup } from '../../containerd/setup.ts';
import { installedVersion, outputOf, type ProgramVersion, parseVersion } from '../../containerd/version.ts';
import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';
import { coloured } from '../text.ts';

export interface SetupOptions {
  /** containerd's configuration. */
  file?: string;
  /** The version of containerd, if it is not installed here. */
  for?: string;
  cri?: boolean;
  dryRun?: boolean;
  undo?: boolean;
  restart?: boolean;
}

/** `nymph setup containerd`: puts nymph's lines into containerd's configuration, or takes them out. */
export async function run(context: Context, options: SetupOptions): Promise<undefined> {
  const { config } = context;
  const wanted = options.undo ? undefined : await wantedFor(context, options);
  const setup = await prepareSetup(options.file ?? config.containerd.config, wanted);
  const diff = unifiedDiff(setup.before ?? '', setup.after, setup.file);
  const changed = diff !== '';
  const write = changed && !options.dryRun;
  const { backup, notes } = write ? await writeSetup(setup, wanted) : { backup: undefined, notes: [] };
  const restarted = options.restart === true && !options.dryRun;
  if (restarted) await restart();
  const result = { file: setup.file, containerd: wanted?.containerd.text, changed, written: write, backup, notes };
  context.print({ ...result, restarted, diff }, () => {
    if (!changed) return `${setup.file}: nothing to change${restarted ? '; containerd was restarted' : ''}`;
    const lines = [colouredDiff(diff)];
    if (options.dryRun) lines.push(`nothing was written: this is what would change in ${setup.file}`);
    else lines.push(`written: ${setup.file}${backup ? `; as it was: ${backup}` : ''}`);
    lines.push(...notes.map((note) => `${coloured('yellow', 'without effect')}: ${note}`));
    if (restarted) lines.push('containerd was restarted');
    else if (!options.dryRun) lines.push('It counts once containerd is restarted: systemctl restart containerd');
    return lines.join('\n');
  });
}

async function wantedFor({ config }: Context, options: SetupOptions): Promise<Wanted> {
  const containerd = await containerdVersion(options.for);
  const nerdctl = await installedVersion('nerdctl');
  return { containerd, nerdctl, address: config.snapshotter.address, root: config.root, cri: options.cri === true };
}

async function containerdVersion(given: string | undefined): Promise<ProgramVersion> {
  if (given !== undefined) {
    const version = parseVersion(given);
    if (version) return version;
    throw new NymphError('usage', `${given} is no version`, { hint: 'Write it like 1.7 or 2.1.5.' });
  }
  const version = await installedVersion('containerd');
  if (version) return version;
  throw new NymphError('not-found', 'containerd is not on the PATH', {
    hint: 'Name the version that the file is for, for example `--for 1.7`.',
  });
}

async function restart(): Promise<void> {
  try {
    await outputOf('systemctl', ['restart', 'containerd']);
  } catch (error) {
    throw new NymphError('daemon', `containerd could not be restarted: ${(error as Error).message.trim()}`, {
      hint: 'The file is written; restart containerd as this machine does it.',
      cause: error,
    });
  }
}

function colouredDiff(diff: string): string {
  const colour = (line: string) =>
    line.startsWith('+') ? coloured('green', line) : line.startsWith('-') ? coloured('red', line) : line;
  return diff.trimEnd().split('\n').map(colour).join('\n');
}
