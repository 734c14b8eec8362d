import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Health, UpgradeRequest } from '../../daemon/api.ts';
import type { ControlClient } from '../../daemon/control-client.ts';
import { NymphError } from '../../errors.ts';
import { INSTALLED, VERSION } from '../../version.ts';
import type { Context } from '../context.ts';
import { daemonCommand } from '../daemon-command.ts';
import { progressView } from '../progress.ts';

/** How a version takes over: what it says of itself, asked with `nymph upgrade --plan`. */
interface Plan extends Omit<UpgradeRequest, 'limit'> {
  version: string;
  installed: string;
}

const DEFAULT_LIMIT_MS = 10_000;
/** A version that cannot say so within this time, ms, is none. */
const PLAN_LIMIT_MS = 30_000;
/** After both of its steps, and the start of the old version again, somebody must answer, ms. */
const ANSWER_MS = 60_000;
const POLL_MS = 20;

/** `nymph upgrade`: has the daemon that runs hand over to the version in a directory; to this one by default. */
export async function run(
  context: Context,
  directory: string | undefined,
  { within = DEFAULT_LIMIT_MS, plan }: { within?: number; plan?: boolean },
): Promise<undefined> {
  if (plan) {
    const own = await ownPlan(context);
    context.print(own, () => JSON.stringify(own));
    return;
  }
  const client = await context.daemon();
  const before = await client.health();
  const next = directory === undefined ? await ownPlan(context) : await planOf(context, resolve(directory));
  const { command, formats } = next;
  const begun = performance.now();
  const view = progressView();
  let after: Health;
  try {
    view.update({ stage: `starting ${next.version}` });
    await client.upgrade({ command, formats, limit: within }).catch((error) => {
      throw error instanceof NymphError && error.code === 'not-found' ? tooOld(before) : error;
    });
    view.update({ stage: 'handing over' });
    after = await answering(client, before.pid, 2 * within + ANSWER_MS);
  } finally {
    view.clear();
  }
  if (after.installed !== next.installed)
    throw new NymphError(
      'daemon',
      `${next.version} in ${next.installed} did not take over; ${after.version} serves again`,
      {
        hint: 'Readers have waited meanwhile. Look at the log of the daemon; the next start of the service uses what is installed.',
      },
    );
  const milliseconds = Math.round(performance.now() - begun);
  context.print(
    { from: before.version, to: after.version, pid: after.pid, installed: after.installed, milliseconds },
    () => `handed over from ${before.version} to ${after.version} (process ${after.pid}) in ${milliseconds} ms`,
  );
}

function tooOld({ version }: Health): NymphError {
  return new NymphError('unsupported', `the daemon that runs (${version}) is too old to hand over`, {
    hint: 'Stop it with `nymph daemon --stop` and start this version: programs that read lazy images have to be started again.',
  });
}

/** Of this version. What its daemon imports is loaded: a tree that lacks something shows it now. */
async function ownPlan(context: Context): Promise<Plan> {
  const [{ FORMATS }] = await Promise.all([import('../../daemon/formats.ts'), import('../../daemon/daemon.ts')]);
  return { version: VERSION, installed: INSTALLED, formats: FORMATS, command: daemonCommand(context) };
}

/** Of the version in another directory, by its own program: it reads the configuration, too. */
function planOf({ globals }: Context, directory: string): Promise<Plan> {
  const program = join(directory, 'bin', 'nymph');
  if (!existsSync(program))
    throw new NymphError('not-found', `there is no nymph in ${directory}: ${program} is not there`, {
      hint: 'Name the directory of a version, such as /usr/local/lib/nymph/current.',
    });
  const { config, root, address, driver } = globals;
  const options = { '--config': config, '--root': root, '--address': address, '--driver': driver };
  const args = Object.entries(options).flatMap(([name, value]) => (value === undefined ? [] : [name, value]));
  return new Promise((resolve, reject) => {
    execFile(program, [...args, 'upgrade', '--plan'], { timeout: PLAN_LIMIT_MS }, (cause, out, said) => {
      const plan = cause === null ? asPlan(out) : undefined;
      if (plan !== undefined) return resolve(plan);
      const why = said.trim() || cause?.message || 'it does not say how it is started';
      reject(
        new NymphError('precondition', `the nymph in ${directory} cannot take over: ${why}`, {
          hint: 'The daemon that runs was not touched.',
          cause,
        }),
      );
    });
  });
}

function asPlan(text: string): Plan | undefined {
  try {
    const plan = JSON.parse(text) as Plan;
    return Array.isArray(plan.command) && typeof plan.installed === 'string' ? plan : undefined;
  } catch {
    return undefined;
  }
}

/** The daemon that answers after the one with process id `pid`. */
async function answering(client: ControlClient, pid: number, limit: number): Promise<Health> {
  for (const end = performance.now() + limit; ; await sleep(POLL_MS)) {
    try {
      const health = await client.health();
      // Before it has another supervisor it may not have been believed yet.
      if (health.pid !== pid && health.supervisor !== undefined) return health;
    } catch (error) {
      if (!(error instanceof NymphError) || error.code !== 'daemon') throw error;
      if (performance.now() > end) throw error;
    }
    if (performance.now() > end)
      throw new NymphError('timeout', `no daemon has answered within ${limit / 1000} s`, { hint: 'Look at its log.' });
  }
}
