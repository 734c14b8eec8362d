/** What nymph reads of containerd's `config.toml`, whatever the version that it is written in. */
export interface CriSettings {
  /** Where its keys stand: the table of `snapshotter` and `disable_snapshot_annotations`. */
  readonly table: readonly string[];
  /** False if the plugin is among `disabled_plugins`. */
  readonly enabled: boolean;
  readonly snapshotter: string | undefined;
  readonly annotations: boolean;
  /** Why 2.1 and later would pull without the transfer service. */
  readonly localPull: readonly string[];
}

export type Table = Record<string, unknown>;

export const TRANSFER: readonly string[] = ['plugins', 'io.containerd.transfer.v1.local'];
/** Of version 3 and later; before it was in the plugin `io.containerd.grpc.v1.cri`. */
const IMAGES = 'io.containerd.cri.v1.images';
const CRI = 'io.containerd.grpc.v1.cri';

/** containerd downloads so many layers at a time if nobody says. */
const DEFAULT_DOWNLOADS = 3;

/** `version` of a configuration; without it, it is 1. */
export function formatVersion(document: Table): number {
  return typeof document.version === 'number' ? document.version : 1;
}

/**
 * How CRI pulls and where it unpacks.
 * @param major of containerd: 2.x reads files of version 2, and translates them
 */
export function criSettings(document: Table, major: number): CriSettings {
  const current = formatVersion(document) >= 3;
  const older = tableAt(document, ['plugins', CRI]);
  // containerd 2.x takes over what is in `containerd` only if there are `containerd.runtimes`, and forgets it otherwise.
  const translated = major < 2 || Object.keys(tableAt(older, ['containerd', 'runtimes'])).length > 0;
  const table = current || !translated ? ['plugins', IMAGES] : ['plugins', CRI, 'containerd'];
  const images = tableAt(document, table);
  const pulling = current ? images : { ...tableAt(document, ['plugins', IMAGES]), ...older };
  const disabled = Array.isArray(document.disabled_plugins) ? document.disabled_plugins : [];
  const registry = tableAt(pulling, ['registry']);
  const reasons: [string, boolean][] = [
    ['disable_snapshot_annotations = false', images.disable_snapshot_annotations === false],
    ['discard_unpacked_layers = true', images.discard_unpacked_layers === true],
    ['use_local_image_pull = true', pulling.use_local_image_pull === true],
    ['image_pull_with_sync_fs = true', pulling.image_pull_with_sync_fs === true],
    [
      `max_concurrent_downloads = ${pulling.max_concurrent_downloads}`,
      (pulling.max_concurrent_downloads ?? DEFAULT_DOWNLOADS) !== DEFAULT_DOWNLOADS,
    ],
    ...['mirrors', 'configs', 'auths'].map((key): [string, boolean] => [
      `registry.${key}`,
      Object.keys(tableAt(registry, [key])).length > 0,
    ]),
  ];
  return {
    table,
    enabled: ![CRI, IMAGES, 'cri'].some((name) => disabled.includes(name)),
    snapshotter: typeof images.snapshotter === 'string' ? images.snapshotter : undefined,
    annotations: images.disable_snapshot_annotations === false,
    localPull: reasons.filter(([, is]) => is).map(([reason]) => reason),
  };
}

/** Names of snapshotters in the transfer service's list; `undefined` if there is none. */
export function unpackSnapshotters(document: Table): string[] | undefined {
  const list = tableAt(document, TRANSFER).unpack_config;
  if (!Array.isArray(list)) return undefined;
  return list.map((entry: Table) => entry.snapshotter).filter((name) => typeof name === 'string');
}

/** Names of proxy plugins with a socket. */
export function pluginsAt(document: Table, address: string): string[] {
  const plugins = tableAt(document, ['proxy_plugins']);
  return Object.keys(plugins).filter((name) => tableAt(plugins, [name]).address === address);
}

/** The table at a path, empty if there is none. */
export function tableAt(document: Table, path: readonly string[]): Table {
  let table: unknown = document;
  for (const key of path) {
    if (typeof table !== 'object' || table === null || !Object.hasOwn(table, key)) return {};
    table = (table as Table)[key];
  }
  return typeof table === 'object' && table !== null && !Array.isArray(table) ? (table as Table) : {};
}
