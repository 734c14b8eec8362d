import type { PreheatResult, PreheatWay } from '../../daemon/api.ts';
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
  options: { platform?: string; scope?: PreheatScope; via?: PreheatWay },
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

const WAYS: Record<PreheatWay, string> = {
  manager: 'by the manager',
  harbor: 'by Harbor',
  dfdaemon: 'through dfdaemon',
};

function resultText({ reference, digest, by, blobs, bytes, milliseconds }: PreheatResult): string {
  return `preheated ${printable(reference)}@${digest}: ${plural(blobs, 'blob')}, ${formatSize(bytes)}, ${WAYS[by]} in ${formatDuration(milliseconds)}`;
}
