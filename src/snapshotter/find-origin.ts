import type { ContentStore, StoredContent } from '../containerd/content.ts';
import { NymphError } from '../errors.ts';
import { isDigest } from '../sources/digest.ts';
import type { Layer } from './lazy.ts';
import { type Origin, pinned } from './origin.ts';

/**
 * Which image a bootstrap layer belongs to that containerd unpacked for a puller that did not say so. containerd's content
 * store knows: an image's config names the chain id of its uppermost layer, its manifest names the config, and both name
 * the registry and repository that they came from.
 */

/** `<this><snapshotter>` on a config: the snapshot that its layers were unpacked into. */
const UNPACKED = 'containerd.io/gc.ref.snapshot.';
/** On a manifest: its config. */
const CONFIG = 'containerd.io/gc.ref.content.config';
/** `<this><host>`: repositories, comma separated. */
const SOURCE = 'containerd.io/distribution.source.';

/** @param snapshotters names by which containerd may know us */
export async function findOrigin(
  store: ContentStore,
  layer: Layer,
  snapshotters: readonly string[],
  signal: AbortSignal,
): Promise<Origin> {
  // `<namespace>/<number>/<chain id>`: what a committed layer is called.
  const [namespace, , chain] = layer.name.split('/');
  for (const snapshotter of snapshotters)
    for (const config of await store.withLabels(namespace, { [UNPACKED + snapshotter]: chain }, signal))
      for (const manifest of await store.withLabels(namespace, { [CONFIG]: config.digest }, signal)) {
        const origin = originIn(manifest);
        if (origin !== undefined) return origin;
      }
  throw new NymphError('not-found', `containerd does not know where the image of ${layer.name} came from`, {
    hint: 'Pull it again; `nymph run-check` and docs/containerd.md say how a puller names the image.',
  });
}

function originIn({ digest, labels }: StoredContent): Origin | undefined {
  if (!isDigest(digest)) return undefined;
  for (const [key, repositories] of Object.entries(labels)) {
    if (!key.startsWith(SOURCE)) continue;
    const origin = pinned(`${key.slice(SOURCE.length)}/${repositories.split(',')[0]}@${digest}`, digest);
    if (origin !== undefined) return origin;
  }
  return undefined;
}
