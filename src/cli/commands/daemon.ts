import { extname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { supervise } from '../../daemon/supervisor.ts';
import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';

/** `nymph daemon`: serves until it is told to stop; with `stop`, tells the one that runs. */
export async function run(context: Context, options: { stop?: boolean }): Promise<number | undefined> {
  if (options.stop) {
    const client = await context.daemon();
    const { pid } = await client.health();
    await client.stop();
    context.print({ stopped: pid }, () => `stopped the daemon (process ${pid})`);
    return undefined;
  }
  try {
    return await supervise({
      script: daemonScript(),
      arguments: daemonArguments(context),
      log: logger(context),
    });
  } catch (error) {
    const { path, code } = error as NodeJS.ErrnoException;
    if (path !== '/dev/fuse') throw error;
    throw new NymphError('mount', `cannot open /dev/fuse: ${code}`, {
      hint: code === 'ENOENT' || code === 'ENODEV' ? 'Load the module: `modprobe fuse`.' : 'Run as root.',
      cause: error,
    });
  }
}

/** The daemon's entry point, built or not as this file is. */
function daemonScript(): string {
  return fileURLToPath(new URL(`../../daemon/main${extname(import.meta.url)}`, import.meta.url));
}

function daemonArguments({ globals }: Context): string[] {
  const options = { '--config': globals.config, '--root': globals.root, '--address': globals.address };
  return Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
}

/** The supervisor speaks seldom: its process carries no logger until it does. */
function logger({ config }: Context): (message: string) => void {
  return async (message) => {
    const { createLogger } = await import('../../daemon/log.ts');
    createLogger(config.log).warn(message);
  };
}
