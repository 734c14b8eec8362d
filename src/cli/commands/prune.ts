import { formatSize } from '../../daemon/units.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { plural } from '../text.ts';

/** `nymph prune` */
export async function run(
  context: Context,
  options: { all?: boolean; to?: number; force?: boolean },
): Promise<undefined> {
  const client = await context.daemon();
  const view = progressView();
  try {
    const result = await client.prune({ target: options.all ? 0 : options.to, force: options.force }, view.update);
    view.clear();
    context.print(result, () => {
      const removed = `${plural(result.blobs.length, 'blob')} and ${plural(result.images.length, 'image')}`;
      return `freed ${formatSize(result.freed)}: removed ${removed}`;
    });
  } catch (error) {
    view.clear();
    throw error;
  }
}
