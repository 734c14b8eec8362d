/**
 * What containerd is promised. One image of three layers, as it comes and goes:
 *
 *   prepare('default/1/extract-… A', '')          an empty writable snapshot: a bind mount of its directory
 *     … containerd unpacks layer A on the mounts …
 *   commit('default/2/A', 'default/1/extract-… A')  the same snapshot, now for ever as it is, under its own name
 *   prepare('default/3/extract-… B', 'default/2/A') a writable snapshot on top of A: an overlay mount
 *   … B and C likewise …
 *   prepare('default/7/container', 'default/6/C')   the container's root file system
 *   remove('default/7/container')                   the container ends
 *   cleanup()                                       the end of containerd's garbage collection
 *
 * A layer that is served lazily skips the download: `prepare` with the label {@link LABEL_TARGET} answers that the
 * snapshot exists already (`lazy.ts`), and containerd finds the committed one with `list`.
 *
 * Keys and names are containerd's, opaque, and arrive as `<namespace>/<number>/<what the client said>`; they hold
 * slashes and spaces and are never paths. One space of names for all kinds and namespaces, one for each name that
 * containerd has for us (`plugin.ts`).
 *
 * Errors are NymphErrors: `not-found`, `exists`, `precondition` (right question at the wrong time), `usage` (wrong
 * question); `grpc-errors.ts` says what containerd makes of them.
 *
 * Promises beyond those of each call:
 *  - What was acknowledged survives a power cut: a snapshot is there, or is not, as the last answer said.
 *  - Directories before record, record before answer: no record without its directory, no answer without its record.
 *    Removal goes the other way round.
 *  - Nothing here waits for the network but `prepare`, `view` and `mounts` of lazy images.
 */
export interface Snapshotter {
  /**
   * Makes a writable snapshot on top of a committed one, or of nothing (`parent` empty).
   * @throws `exists` if the key is in use, and also if the label {@link LABEL_TARGET} is there and the layer is served
   *   lazily: then a committed snapshot with that label and that parent is durable. `not-found` without such a parent;
   *   `usage` if it is not committed.
   */
  prepare(key: string, parent: string, labels: Labels, signal: AbortSignal): Promise<Mount[]>;
  /** The same, read-only. */
  view(key: string, parent: string, labels: Labels, signal: AbortSignal): Promise<Mount[]>;
  /** What `prepare` or `view` answered, as often as wanted. @throws `precondition` for a committed snapshot */
  mounts(key: string, signal: AbortSignal): Promise<Mount[]>;
  /**
   * Makes a writable snapshot a committed one. Its labels are replaced; the key is free again; both times become now.
   * @param parent for a snapshot that was made without one (clients that rebase), else empty or the same
   * @throws `exists` if the name is in use, `precondition` for a view or if `parent` is not committed, `usage` if the
   *   snapshot has another parent already
   */
  commit(name: string, key: string, labels: Labels, parent: string): Promise<void>;
  /** Forgets a snapshot; its name is free at once. Its directories go in the background. @throws `precondition` if another builds on it */
  remove(key: string): Promise<void>;
  stat(key: string): Info;
  /**
   * Changes labels and nothing else.
   * @param paths empty or `labels`: all are replaced; `labels.<key>`: this one is set, or taken away if absent or empty
   * @throws `usage` for any other path
   */
  update(key: string, labels: Labels, paths: readonly string[]): Promise<Info>;
  /** Every snapshot that one of the filters (`filters.ts`) matches, in no promised order, some at a time. @throws `usage` for a filter that cannot be read */
  list(filters: readonly string[]): AsyncIterable<Info[]>;
  /**
   * What the snapshot takes on disk by itself, without parents. A writable one is measured at each call, a committed one
   * once; a view and a lazily served layer take nothing here.
   */
  usage(key: string): Promise<Usage>;
  /** Resolves when what was removed is gone from the disk, as far as it can go. */
  cleanup(): Promise<void>;
  /** Whether a snapshot was ever made here. */
  readonly used: boolean;
  /** Ends background work. Mounts and snapshots stay. */
  close(): Promise<void>;
}

/** `active`: writable. `view`: read-only, can never be committed. `committed`: what others build on. */
export type Kind = 'active' | 'view' | 'committed';

export type Labels = Readonly<Record<string, string>>;

export interface Info {
  name: string;
  /** Name of the snapshot below, or empty. */
  parent: string;
  kind: Kind;
  /** Nanoseconds since 1970. */
  created: bigint;
  updated: bigint;
  labels: Labels;
}

/** One call of mount(2) for containerd to make. */
export interface Mount {
  type: string;
  source: string;
  options: string[];
}

export interface Usage {
  /** Bytes on disk, as `du` counts. */
  size: number;
  /** Inodes; a file with several names is one. */
  inodes: number;
}

/** Set by containerd on `prepare` for unpacking: the chain id of the layer to come, by which it looks for the result. */
export const LABEL_TARGET = 'containerd.io/snapshot.ref';
/**
 * Set by us: `true` on a layer that is served lazily; on one that was asked for as lazy and is not, `false: ` and why.
 * Read by people (`ctr snapshots info`). Whatever a client says under this key is dropped.
 */
export const LABEL_LAZY = 'containerd.io/snapshot/nymph.lazy';
/** Set by us on the uppermost layer of a lazy image: the reference, with the digest of the manifest. Read by people, and by us to mount it. */
export const LABEL_IMAGE = 'containerd.io/snapshot/nymph.image';
/** Set by us on the other layers of an ordinary image whose Nydus image is mounted in its place: the origin of the ordinary one. */
export const LABEL_PIECE = 'containerd.io/snapshot/nymph.piece-of';
/**
 * Set by us on a layer in which a client gave every file another owner for a user namespace, because nobody has told
 * containerd that we can map ids (its capability `remap-ids`). Read by us: the ids of what builds on it are right already.
 */
export const LABEL_REMAPPED = 'containerd.io/snapshot/nymph.remapped';
/** Set by clients for containers with user namespaces: `container id:host id:size`, more after commas. We map the mounts and own the upper directory accordingly. */
export const LABEL_UID_MAP = 'containerd.io/snapshot/uidmapping';
export const LABEL_GID_MAP = 'containerd.io/snapshot/gidmapping';
/** Set by clients that can lose a container's writes in a power cut: the kernel then never syncs the upper directory. Nydus defined it. */
export const LABEL_VOLATILE = 'containerd.io/snapshot/overlay.volatile';
