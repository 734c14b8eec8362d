import { setTimeout as sleep } from 'node:timers/promises';
import type { Health } from '../../daemon/api.ts';
import { connectionNames, takeStored } from '../../daemon/stored-descriptor.ts';
import { supervise } from '../../daemon/supervisor.ts';
import { NymphError } from '../../errors.ts';
import type { Context } from '../context.ts';
import { daemonCommand } from '../daemon-command.ts';

/** The daemon gives up after 10 s, its supervisor after 15, ms. */
const STOP_LIMIT = 20_000;
/** How often a daemon is looked after that has another supervisor, ms. */
const ATTEND_MS = 500;
/** If nobody answers for so long, and the processes are gone, there is no daemon any more, ms. */
const GONE_MS = 5_000;

/** `nymph daemon`: serves until it is told to stop; with `stop`, tells the one that runs. */
export async function run(context: Context, options: { stop?: boolean }): Promise<number | undefined> {
  if (options.stop) {
    await stopDaemon(context);
    return undefined;
  }
  const { root, fuse } = context.config;
  const stored = takeStored(process.env, connectionNames(root, fuse.mountpoint));
  if (await attend(context)) return undefined;
  try {
    return await supervise({
      command: daemonCommand(context),
      fuse: fuse.driver === 'kernel',
      stored: fuse.driver === 'kernel' ? stored : undefined,
      log: logger(context),
    });
  } catch (error) {
    const { path, code } = error as NodeJS.ErrnoException;
    if (path !== '/dev/fuse') throw error;
    throw new NymphError('mount', `cannot open /dev/fuse: ${code}`, {
      hint:
        code === 'ENOENT' || code === 'ENODEV'
          ? 'Load the module: `modprobe fuse`.'
          : 'Run as root, or as yourself with `--driver fuse-native`.',
      cause: error,
    });
  }
}

/**
 * Stands for a daemon that goes on although the process is dead that was started for it in the foreground: a service
 * manager would start that one again and again. Waits for the end of the daemon, and passes on what would stop it.
 * @returns false if there is none, or it was killed
 */
async function attend(context: Context): Promise<boolean> {
  const { controlClient } = await import('../../daemon/control-client.ts');
  const client = controlClient(context.config.address);
  const ask = () => client.health().catch(() => undefined);
  let health = await ask();
  if (!health?.standIn) return false;
  logger(context)(`a daemon serves already (process ${health.pid}); waiting for its end`);
  let stopped = false;
  const stop = () => {
    stopped = true;
    client.stop().catch((error: Error) => logger(context)(`cannot stop the daemon: ${error.message}`));
  };
  process.on('SIGTERM', stop).on('SIGINT', stop);
  // Each of the two starts the other again, under another number, and needs a while for it.
  for (
    let last = health, since = performance.now();
    performance.now() - since < GONE_MS || isThere(last);
    last = health ?? last
  ) {
    await sleep(ATTEND_MS);
    health = await ask();
    if (health !== undefined) since = performance.now();
    else if (stopped && !isThere(last)) break;
  }
  process.off('SIGTERM', stop).off('SIGINT', stop);
  return stopped;
}

/** Returns when the processes are gone, so that the next daemon finds the root free. */
async function stopDaemon(context: Context): Promise<void> {
  const client = await context.daemon();
  const { pid, supervisor } = await client.health();
  await client.stop();
  const begin = performance.now();
  while (isAlive(pid) || (supervisor !== undefined && isAlive(supervisor))) {
    if (performance.now() - begin > STOP_LIMIT)
      throw new NymphError('timeout', `the daemon (process ${pid}) did not end within ${STOP_LIMIT / 1000} s`, {
        hint: 'Look at its log.',
      });
    await sleep(20, undefined, { signal: context.interruption() }).catch((cause) => {
      throw new NymphError('cancelled', 'interrupted; the daemon is still stopping', { cause });
    });
  }
  context.print({ stopped: pid }, () => `stopped the daemon (process ${pid})`);
}

function isThere({ pid, supervisor = pid }: Health): boolean {
  return isAlive(pid) || isAlive(supervisor);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** The supervisor speaks seldom: its process carries no logger until it does. */
function logger({ config }: Context): (message: string) => void {
  return async (message) => {
    const { createLogger } = await import('../../daemon/log.ts');
    createLogger(config.log).warn(message);
  };
}
