import type { MountOptions } from '../../daemon/api.ts';
import { isDaemonAbsent } from '../../daemon/control-client.ts';
import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';
import { makeDirectory } from '../directories.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { choiceText, printable } from '../text.ts';

/** What to mount, as the command line has it. */
export interface MountArguments {
  /** Reference and directory; with `bootstrap`, the directory alone. */
  first?: string;
  second?: string;
  /** A file, instead of a reference. */
  bootstrap?: string;
  /** Of nydusd: where the blobs are. */
  config?: string;
}

/** `nymph mount`: returns when the directory can be read. */
export async function run(context: Context, image: MountArguments, options: MountOptions): Promise<undefined> {
  const { reference, directory, prefetch, idle, file } = await chosenImage(image);
  const client = await context.daemon();
  const view = progressView();
  const made = await makeDirectory(directory);
  try {
    const { platform, via, strict, subset } = options;
    const request = { platform, prefetch: options.prefetch ?? prefetch, via, strict, subset };
    const ask = () => client.mount({ reference, directory: made.path, options: request }, view.update);
    const mount = await ask().catch(async (error) => {
      if (!isDaemonAbsent(error)) throw error;
      // Loaded only here: where a daemon runs, a mount is a matter of milliseconds.
      const { startDaemon } = await import('../start-daemon.ts');
      await startDaemon(context);
      return ask();
    });
    view.clear();
    context.print(
      { ...mount, ...(file === undefined ? {} : { withoutEffect: idle }) },
      () =>
        `mounted ${printable(mount.reference)} on ${printable(mount.directory)}${choiceText(mount.choice, mount.digest)}`,
    );
    if (idle.length > 0 && !context.globals.json) {
      const lines = idle.map(({ key, why }) => `  ${printable(key)}: ${why}`);
      process.stderr.write(`nymph: keys of ${printable(file ?? '')} without effect:\n${lines.join('\n')}\n`);
    }
  } catch (error) {
    view.clear();
    await made.undo();
    throw error;
  }
}

interface Chosen {
  reference: string;
  directory: string;
  prefetch?: MountOptions['prefetch'];
  /** Keys of the configuration of nydusd that do nothing, and its file. */
  idle: readonly { key: string; why: string }[];
  file?: string;
}

/** @param second absent with `--bootstrap`, which is instead of a reference */
async function chosenImage({ first, second, bootstrap, config }: MountArguments): Promise<Chosen> {
  const wrong = (message: string, hint = 'See `nymph mount --help`.') => new NymphError('usage', message, { hint });
  if (first === undefined)
    throw wrong(`missing required argument '${bootstrap === undefined ? 'reference' : 'directory'}'`);
  if (bootstrap === undefined && second === undefined) throw wrong("missing required argument 'directory'");
  if (bootstrap !== undefined && second !== undefined) throw wrong('--bootstrap is instead of a reference');
  const directory = second ?? first;
  if (config === undefined && bootstrap === undefined)
    return { reference: canonicalReference(first), directory, idle: [] };
  if (config === undefined)
    throw wrong('a bootstrap does not say where its blobs are', 'Name the configuration of nydusd with --config.');
  // Most mounts have none: its modules are not theirs to load.
  const { readNydusd } = await import('../nydusd.ts');
  return { directory, ...(await readNydusd(config, bootstrap === undefined ? { reference: first } : { bootstrap })) };
}
