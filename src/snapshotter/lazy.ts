import type { Labels } from './snapshotter.ts';

/**
 * The seam between the snapshotter and images that are served lazily. The snapshotter keeps the records; the other side
 * knows formats, registries and mounts. Without it every image is unpacked as usual.
 */
export interface LazyLayers {
  /**
   * Asked at each `prepare` for unpacking, before containerd downloads the layer. `here: true` promises that snapshots on
   * top can be mounted: a committed record with `labels` is made, and containerd downloads nothing. Rejecting is the
   * same as `here: false` with that reason, unless `signal` is aborted.
   * May be called several times at once, and again, for the same layer.
   */
  claim(layer: LayerRequest, signal: AbortSignal): Promise<Claim>;
  /**
   * The lower directories for snapshot `id`, which is active or a view, with these ancestors, nearest first. `undefined`:
   * each ancestor's own directory. From now until `release(id)` they must be there; they are asked for again at each
   * `mounts`, also after a restart. All of them below the snapshotter's root keeps mount options short.
   * Never called from inside of `claim`. Rejects with the reason if the image cannot be mounted.
   */
  lowers(id: number, ancestors: readonly Layer[], signal: AbortSignal): Promise<Lowers | undefined>;
  /**
   * Told of each layer that was committed, because it was claimed or because containerd unpacked it: what it stands for
   * can be made ready, until `release`.
   */
  committed(layer: Layer): void;
  /** A writable snapshot was made on top of these, nearest first: something is about to run on it. */
  began(name: string, ancestors: readonly Layer[]): void;
  /**
   * Snapshot `id` is gone: what was held for it may go. Resolves when its directories can be removed. Called once the
   * record is durably away, and also for an `id` that was never recorded because its `prepare` failed.
   */
  release(id: number): Promise<void>;
  /** At start, before anything else: what is recorded. Whatever is held for other ids is to be given up. */
  restore(layers: readonly Layer[]): Promise<void>;
}

/** A snapshot as the other side sees it. */
export interface Layer {
  readonly id: number;
  readonly name: string;
  /** Id of the snapshot below. */
  readonly parentId: number | undefined;
  readonly kind: 'active' | 'view' | 'committed';
  readonly labels: Labels;
  /** True for a committed one that was made by a `claim`: its own directory is empty. */
  readonly lazy: boolean;
}

export interface LayerRequest {
  /** Of the snapshot that would be unpacked into: `<plugin>/<namespace>/…`. */
  readonly key: string;
  /** Chain id of the layer that containerd wants. */
  readonly target: string;
  /** All labels of the request: image reference, layer digest, annotations of the layer. */
  readonly labels: Labels;
  /** Layers below, nearest first. */
  readonly ancestors: readonly Layer[];
}

export type Claim =
  /** `labels` are added to those of the request. */
  { here: true; labels?: Labels } | { here: false; reason: string };

export interface Lowers {
  /** Absolute, nearest first. */
  readonly directories: readonly string[];
  /** Of the root directory of the uppermost: a new upper directory gets the same. */
  readonly owner: Owner;
}

export interface Owner {
  uid: number;
  gid: number;
}
