import type { VerifyResult } from '../../daemon/api.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { EXIT, type ExitCode } from '../../exit-status.ts';
import type { Context } from '../context.ts';
import { looksLikeDirectory, mountedDirectory } from '../directories.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { count, plural, printable } from '../text.ts';

/** `nymph verify`: exit status 5 if a chunk is wrong and could not be had right. */
export async function run(
  context: Context,
  target: string,
  options: { platform?: string; cached?: boolean },
): Promise<ExitCode | undefined> {
  const client = await context.daemon();
  const view = progressView();
  try {
    const result = await client.verify(
      {
        target: looksLikeDirectory(target) ? await mountedDirectory(target) : canonicalReference(target),
        platform: options.platform,
        cachedOnly: options.cached === true,
      },
      view.update,
    );
    view.clear();
    context.print(result, () => resultText(result));
    return result.bad.length > 0 ? EXIT.corrupt : undefined;
  } catch (error) {
    view.clear();
    throw error;
  }
}

function resultText(result: VerifyResult): string {
  const parts = [
    `${count(result.verified)} of ${plural(result.chunks, 'chunk')} right (${formatSize(result.bytes)} checked)`,
  ];
  if (result.repaired > 0) parts.push(`${count(result.repaired)} were wrong and are repaired`);
  if (result.unverifiable) parts.push(`${plural(result.unverifiable, 'file')} without a digest`);
  if (result.absent > 0) parts.push(`${count(result.absent)} not in the cache`);
  if (result.bad.length > 0) parts.push(`${count(result.bad.length)} wrong, and no source has right bytes`);
  const lines = [`${parts.join('; ')}; ${formatDuration(result.milliseconds)}`];
  for (const bad of result.bad) lines.push(`  wrong: ${printable(bad)}`);
  return lines.join('\n');
}
