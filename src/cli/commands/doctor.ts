import { checkContainerd } from '../../doctor/containerd.ts';
import { checkDaemon } from '../../doctor/daemon.ts';
import { type Finding, findings } from '../../doctor/finding.ts';
import { checkKernel } from '../../doctor/kernel.ts';
import { checkClock, checkLimits, checkRoot, existing } from '../../doctor/machine.ts';
import { checkRegistry } from '../../doctor/registry.ts';
import { NymphError } from '../../errors.ts';
import { EXIT, type ExitCode } from '../../exit-status.ts';
import type { Context } from '../context.ts';
import { openImage } from '../open-image.ts';
import { coloured, plural, printable } from '../text.ts';
import { lazyReason } from './run-check.ts';

/** `nymph doctor`: what works, what does not, and what to do about it; exit status 1 if there is a problem. */
export async function run(context: Context, reference: string | undefined): Promise<ExitCode | undefined> {
  const { config } = context;
  const isRoot = process.getuid?.() === 0;
  const place = await existing(config.root);
  const { found: daemon, status } = await attempt('daemon', () => checkDaemon(config, context.interruption()));
  const found = [
    ...(await list('kernel', () => checkKernel(place, isRoot))),
    ...(await list('root', () => checkRoot(config.root, place))),
    ...daemon,
    ...(await list('containerd', () => checkContainerd(config))),
    ...(await list('limits', async () => [await checkLimits(status?.health.pid)])),
    ...(await list('clock', async () => [checkClock()])),
  ];
  if (reference !== undefined)
    found.push(
      ...(await checkRegistry(config, reference, async () => lazyReason(await openImage(context, reference)))),
    );
  const problems = found.filter(({ level }) => level === 'problem').length;
  const warnings = found.filter(({ level }) => level === 'warning').length;
  context.print({ findings: found, problems, warnings }, () =>
    [
      ...found.map(line),
      problems + warnings === 0
        ? 'all is well'
        : `${plural(problems, 'problem')}, ${plural(warnings, 'warning')}${isRoot ? '' : '; root sees more'}`,
    ].join('\n'),
  );
  return problems > 0 ? EXIT.failed : undefined;
}

/** A check that fails itself must not hide what the others find. */
async function list(check: string, act: () => Promise<Finding[]>): Promise<Finding[]> {
  return (await attempt(check, async () => ({ found: await act() }))).found;
}

async function attempt<T extends { found: Finding[] }>(
  check: string,
  act: () => Promise<T>,
): Promise<T | { found: Finding[]; status?: undefined }> {
  try {
    return await act();
  } catch (error) {
    if (error instanceof NymphError && error.code === 'cancelled') throw error;
    const { message, hint } = error as NymphError;
    return { found: [findings(check).warning(`could not be checked: ${message}`, hint)] };
  }
}

const SIGNS = { ok: ['green', 'ok     '], warning: ['yellow', 'warning'], problem: ['red', 'PROBLEM'] } as const;

function line({ check, level, says, todo }: Finding): string {
  const [colour, sign] = SIGNS[level];
  const first = `${coloured(colour, sign)}  ${check.padEnd(10)}  ${printable(says)}`;
  return todo === undefined ? first : `${first}\n${' '.repeat(21)}${printable(todo)}`;
}
