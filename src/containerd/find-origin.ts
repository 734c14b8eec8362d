import { NymphError } from '../errors.ts';
import type { Layer } from '../snapshotter/lazy.ts';
import { type Origin, pinned } from '../snapshotter/origin.ts';
import { isDigest } from '../sources/digest.ts';
import type { ContentStore } from './content.ts';

/**
 * Which image a bootstrap layer belongs to that containerd unpacked for a puller that did not say so. containerd knows:
 * an image's config is labelled with the chain id of its uppermost layer, its manifest with the config, an index with its
 * manifests; and the image has a name. Its blobs are labelled with the registry too, but without the port.
 */

/** `<this><snapshotter>` on a config: the snapshot that its layers were unpacked into. */
const UNPACKED = 'containerd.io/gc.ref.snapshot.';
/** On a manifest: its config. */
const CONFIG = 'containerd.io/gc.ref.content.config';
/** `<this><number>` on an index: its manifests. */
const CHILD = 'containerd.io/gc.ref.content.m.';
/** Manifests of an index that are looked through. */
const MOST_CHILDREN = 64;

export async function findOrigin(store: ContentStore, layer: Layer, signal: AbortSignal): Promise<Origin> {
  const [plugin, namespace, , chain] = partsOf(layer);
  for (const config of await store.withLabel(namespace, [[UNPACKED + plugin, chain]], signal))
    for (const { digest } of await store.withLabel(namespace, [[CONFIG, config.digest]], signal)) {
      if (!isDigest(digest)) continue;
      for (const name of await namesOf(store, namespace, digest, signal)) {
        const origin = pinned(name, digest);
        if (origin !== undefined) return origin;
      }
    }
  throw new NymphError('not-found', `containerd does not know where the image of ${layer.name} came from`, {
    hint: 'Pull it again; `nymph run-check` and docs/containerd.md say how a puller names the image.',
  });
}

/** The namespace of containerd that a snapshot is in. @param name its name or key: `<plugin>/<namespace>/…` */
export function namespaceOf(name: string): string {
  return name.split('/')[1];
}

/** The key of a snapshot as the client knows it that made it. @param name `<plugin>/<namespace>/<number>/<key>` */
export function clientKeyOf(name: string): string {
  return name.split('/').slice(3).join('/');
}

/** `<plugin>/<namespace>/<number>/<chain id>`: what a committed layer is called. */
function partsOf({ name }: Layer): string[] {
  return name.split('/');
}

/** Names of images that are the manifest, or an index with it. */
async function namesOf(
  store: ContentStore,
  namespace: string,
  manifest: string,
  signal: AbortSignal,
): Promise<string[]> {
  const names = await store.namesOf(namespace, manifest, signal);
  if (names.length > 0) return names;
  const labels = Array.from({ length: MOST_CHILDREN }, (_, i) => [CHILD + i, manifest] as const);
  for (const { digest } of await store.withLabel(namespace, labels, signal))
    names.push(...(await store.namesOf(namespace, digest, signal)));
  return names;
}
