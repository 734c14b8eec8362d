import { LABEL_TARGET } from '../snapshotter/snapshotter.ts';
import type { Descriptor } from '../sources/source.ts';

/**
 * The labels by which containerd knows what belongs together: its garbage collector follows them, snapshotters learn from
 * them what they are asked for. Sources: containerd's `images/handlers.go`, `remotes/docker/handler.go`,
 * `pkg/snapshotters/annotations.go`.
 */

export type Labels = Record<string, string>;

/** On a layer's blob: the digest of its tar. */
export const UNCOMPRESSED = 'containerd.io/uncompressed';

/** Bytes of a key and its value together. */
const MOST_LABEL = 4096;
/** What of a layer's annotations its snapshot inherits. */
const SNAPSHOT_PREFIX = 'containerd.io/snapshot/';
const CRI_PREFIX = `${SNAPSHOT_PREFIX}cri.`;

/** What a snapshotter must be told to serve a layer lazily. */
export interface LayerContext {
  /** Of the image, in full. */
  reference: string;
  manifestDigest: string;
  /** All of the image, lowest first. */
  layers: readonly Descriptor[];
}

/**
 * Labels of layer number `i` for its snapshot.
 * @param chainId that it will have
 */
export function snapshotLabels(
  { reference, manifestDigest, layers }: LayerContext,
  i: number,
  chainId: string,
): Labels {
  const inherited = Object.entries(layers[i].annotations ?? {}).filter(([key]) => key.startsWith(SNAPSHOT_PREFIX));
  return {
    ...Object.fromEntries(inherited),
    [LABEL_TARGET]: chainId,
    [`${CRI_PREFIX}image-ref`]: reference,
    [`${CRI_PREFIX}manifest-digest`]: manifestDigest,
    [`${CRI_PREFIX}layer-digest`]: layers[i].digest,
    [`${CRI_PREFIX}image-layers`]: digestsThatFit(`${CRI_PREFIX}image-layers`, layers.slice(i)),
  };
}

function digestsThatFit(key: string, layers: readonly Descriptor[]): string {
  let value = '';
  for (const { digest } of layers) {
    const longer = value === '' ? digest : `${value},${digest}`;
    if (!fits(key, longer)) break;
    value = longer;
  }
  return value;
}

/** On an index: the one manifest of it that is here. */
export function indexLabels(manifestDigest: string): Labels {
  return { 'containerd.io/gc.ref.content.m.0': manifestDigest };
}

/** On a manifest: its configuration and its layers, here or not. */
export function manifestLabels(configDigest: string, layers: readonly Descriptor[]): Labels {
  const labels: Labels = { 'containerd.io/gc.ref.content.config': configDigest };
  for (const [i, { digest }] of layers.entries()) labels[`containerd.io/gc.ref.content.l.${i}`] = digest;
  return labels;
}

/** On a configuration: the uppermost snapshot of the unpacked image. */
export function configLabels(snapshotter: string, chainId: string): Labels {
  return { [`containerd.io/gc.ref.snapshot.${snapshotter}`]: chainId };
}

/**
 * On everything that came from a registry: where it came from. Repositories of one host share a label.
 * @param existing labels that the blob has
 * @returns nothing if the label would get too long
 */
export function sourceLabels(host: string, repository: string, existing: Labels): Labels {
  const key = `containerd.io/distribution.source.${hostname(host)}`;
  const repositories = new Set((existing[key] ?? '').split(',').filter((name) => name !== ''));
  const value = [...repositories.add(repository)].sort().join(',');
  return fits(key, value) ? { [key]: value } : {};
}

/** Without port and brackets. */
function hostname(host: string): string {
  return host.replace(/:\d+$/, '').replace(/^\[(.*)\]$/, '$1');
}

function fits(key: string, value: string): boolean {
  return Buffer.byteLength(key) + Buffer.byteLength(value) <= MOST_LABEL;
}
