import { formatDuration, formatSize } from '../../daemon/units.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { choiceText, printable } from '../text.ts';

/** `nymph pull` */
export async function run(context: Context, reference: string, options: { platform?: string }): Promise<undefined> {
  const client = await context.daemon();
  const view = progressView();
  try {
    const result = await client.pull(
      { reference: canonicalReference(reference), platform: options.platform },
      view.update,
    );
    view.clear();
    context.print(result, () => {
      const name = `${printable(result.image.reference)}@${result.image.digest}`;
      const whole = `${formatSize(result.image.size)} in the cache, ${formatSize(result.fetched)} fetched`;
      return `pulled ${name}: ${whole} in ${formatDuration(result.milliseconds)}${choiceText(result.choice, result.image.digest)}`;
    });
  } catch (error) {
    view.clear();
    throw error;
  }
}
