import type { PreheatResult } from '../../daemon/api.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import type { PreheatScope } from '../../sources/dragonfly/manager.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { canonicalReference } from '../reference.ts';
import { plural, printable } from '../text.ts';

/** `nymph preheat`: one image after another. */
export async function run(
  context: Context,
  references: string[],
  options: { platform?: string; scope?: PreheatScope },
): Promise<undefined> {
  const client = await context.daemon();
  const names = references.map(canonicalReference);
  const results: PreheatResult[] = [];
  for (const reference of names) {
    const view = progressView();
    try {
      results.push(await client.preheat({ reference, ...options }, view.update));
    } finally {
      view.clear();
    }
  }
  context.print({ images: results }, () => results.map(resultText).join('\n'));
}

function resultText({ reference, digest, by, blobs, bytes, milliseconds }: PreheatResult): string {
  const way = by === 'manager' ? 'by the manager' : 'through dfdaemon';
  return `preheated ${printable(reference)}@${digest}: ${plural(blobs, 'blob')}, ${formatSize(bytes)}, ${way} in ${formatDuration(milliseconds)}`;
}
