import { formatDuration, formatSize } from '../../daemon/units.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { choiceText, printable } from '../text.ts';

/** `nymph pull` */
export async function run(
  context: Context,
  reference: string,
  options: { platform?: string; subset?: string[] },
): Promise<undefined> {
  const client = await context.daemon();
  const view = progressView();
  try {
    const { platform, subset } = options;
    const result = await client.pull({ reference: canonicalReference(reference), platform, subset }, view.update);
    view.clear();
    context.print(result, () => {
      const { reference: name, digest, size } = result.image;
      const what = subset === undefined ? `@${digest}` : ` (${printable(subset.join(','))})`;
      const whole = `${formatSize(size)} in the cache, ${formatSize(result.fetched)} fetched`;
      return `pulled ${printable(name)}${what}: ${whole} in ${formatDuration(result.milliseconds)}${choiceText(result.choice, digest)}`;
    });
  } catch (error) {
    view.clear();
    throw error;
  }
}
