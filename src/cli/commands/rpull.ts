import { connectContainerd } from '../../containerd/connection.ts';
import { readImage } from '../../containerd/image.ts';
import { findSnapshotter } from '../../containerd/plugin.ts';
import { type PulledLayer, pullImage } from '../../containerd/pull.ts';
import type { Choice } from '../../daemon/api.ts';
import { registryOptions } from '../../daemon/registry-options.ts';
import { formatDuration, formatSize } from '../../daemon/units.ts';
import { NymphError } from '../../errors.ts';
import { openRepository } from '../../sources/open.ts';
import { parseReference, type RegistryReference } from '../../sources/reference.ts';
import type { Context } from '../context.ts';
import { progressView } from '../progress.ts';
import { startDaemon } from '../start-daemon.ts';
import { choiceText, plural, printable } from '../text.ts';

export interface RpullOptions {
  containerd?: string;
  namespace: string;
  snapshotter: string;
  platform?: string;
}

interface RpullResult {
  reference: string;
  /** Of what containerd's record points to, index or manifest; and of the manifest. */
  digest: string;
  manifest: string;
  choice?: Choice;
  namespace: string;
  snapshotter: string;
  layers: PulledLayer[];
  /** Stored bytes of layers that came from the registry. */
  fetched: number;
  milliseconds: number;
}

/** `nymph rpull`: a pull into containerd that asks the snapshotter first. The daemon is needed for nymph's own only. */
export async function run(context: Context, reference: string, options: RpullOptions): Promise<undefined> {
  const begun = performance.now();
  const { namespace, snapshotter: name, platform } = options;
  const parsed = registryReference(reference);
  const signal = context.interruption();
  const connection = connectContainerd(options.containerd ?? context.config.containerd.address);
  const from = openRepository(parsed, registryOptions(context.config));
  const view = progressView();
  try {
    const { address } = await findSnapshotter(connection, name, namespace, signal);
    const ours = address === context.config.snapshotter.address;
    if (ours) await startDaemon(context);
    view.update({ stage: 'resolving' });
    const pinned = parsed.digest !== undefined;
    const image = await readImage(from, platform, { lazily: ours, pinned }, signal);
    const snapshotter = { name, remote: address !== undefined };
    const request = { image, from, host: parsed.host, repository: parsed.repository, namespace, snapshotter };
    const layers = await pullImage(connection, request, view.update, signal);
    view.clear();
    const result: RpullResult = {
      reference: image.reference,
      digest: image.target.digest,
      manifest: image.manifest.descriptor.digest,
      ...(image.choice && { choice: image.choice }),
      namespace,
      snapshotter: name,
      layers,
      fetched: layers.reduce((sum, { fetched }) => sum + fetched, 0),
      milliseconds: Math.round(performance.now() - begun),
    };
    context.print(result, () => resultText(result));
  } finally {
    view.clear();
    connection.close();
    await from.close();
  }
}

function registryReference(text: string): RegistryReference {
  const parsed = parseReference(text);
  if (parsed.kind === 'registry') return parsed;
  throw new NymphError('usage', `${text} is in no registry`, {
    hint: 'containerd names images by registries: push it to one, or mount it with `nymph mount`.',
  });
}

function resultText(result: RpullResult): string {
  const { reference, digest, manifest, choice, snapshotter, layers, fetched, milliseconds } = result;
  const lazy = layers.filter(({ state }) => state === 'lazy').length;
  const size = layers.reduce((sum, layer) => sum + layer.size, 0);
  const name = `${printable(reference)}@${digest}${choiceText(choice, manifest)} for ${printable(snapshotter)}`;
  const much = `${formatSize(fetched)} of ${formatSize(size)} fetched in ${formatDuration(milliseconds)}`;
  const reasons = new Set(layers.flatMap(({ state, reason }) => (state === 'lazy' || !reason ? [] : [reason])));
  return [
    `pulled ${name}: ${lazy} of ${plural(layers.length, 'layer')} lazy, ${much}`,
    ...[...reasons].map((reason) => `  not lazy: ${printable(reason)}`),
  ].join('\n');
}
