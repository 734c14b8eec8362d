import { NymphError } from '../errors.ts';
import { criSettings, formatVersion, type Table, TRANSFER, tableAt, unpackSnapshotters } from './config.ts';
import type { Change } from './toml-edit.ts';
import { atLeast, type ProgramVersion } from './version.ts';

export interface Wanted {
  containerd: ProgramVersion;
  nerdctl: ProgramVersion | undefined;
  /** nymph's socket for containerd, and its root. */
  address: string;
  root: string;
  /** Whether pods get nymph's snapshots, too. */
  cri: boolean;
}

export const PLUGIN = 'nymph';
/**
 * nerdctl up to 2.2 knows lazy snapshotters by these names, and unpacks for the name itself. Tables of them differ in
 * nothing else.
 */
const NERDCTL_NAMES = ['nydus', 'overlaybd', 'cvmfs-snapshotter'];

/**
 * What a containerd must be told so that it pulls lazily with nymph.
 * @param document its configuration as it is
 * @throws NymphError `unsupported` if it is in a format that cannot be added to
 */
export function planChanges(document: Table, wanted: Wanted): Change[] {
  const version = formatVersion(document);
  const empty = Object.keys(document).length === 0;
  if (version < 2 && !empty)
    throw new NymphError('unsupported', 'containerd’s configuration is in format version 1', {
      hint: 'Write it in a newer one first: `containerd config migrate`.',
    });
  if (version > 2 && wanted.containerd.major < 2)
    throw new NymphError('config', `containerd ${wanted.containerd.text} knows no configuration of version ${version}`);
  const changes: Change[] = [];
  if (empty) changes.push({ kind: 'set', table: [], values: { version: wanted.containerd.major < 2 ? 2 : 3 } });
  const settings = criSettings(
    empty ? { version: wanted.containerd.major < 2 ? 2 : 3 } : document,
    wanted.containerd.major,
  );
  const names = pluginNames(document, wanted);
  for (const name of names) {
    const table = ['proxy_plugins', name];
    changes.push({ kind: 'set', table, values: { type: 'snapshot', address: wanted.address } });
    changes.push({
      kind: 'set',
      table: [...table, 'exports'],
      values: { root: wanted.root, enable_remote_snapshot_annotations: 'true' },
    });
  }
  if (wanted.containerd.major >= 2) changes.push(...unpacking(document, names));
  if (wanted.cri) {
    if (!settings.enabled)
      throw new NymphError('config', 'containerd’s CRI plugin is switched off', {
        hint: 'Take it out of `disabled_plugins`, or leave `--cri` away.',
      });
    // From 2.1 on the transfer service sends the labels, unless something else selects the older way.
    const annotations = !atLeast(wanted.containerd, 2, 1) || settings.localPull.length > 0;
    changes.push({
      kind: 'set',
      table: settings.table,
      values: { snapshotter: PLUGIN, ...(annotations ? { disable_snapshot_annotations: false } : {}) },
    });
  }
  return withoutNeedless(changes, document);
}

/** Our own name, and one that an old nerdctl knows, unless somebody else has it. */
function pluginNames(document: Table, { containerd, nerdctl, address }: Wanted): string[] {
  const newEnough = nerdctl !== undefined && atLeast(nerdctl, 2, 3) && atLeast(containerd, 2, 1);
  const plugins = tableAt(document, ['proxy_plugins']);
  const free = NERDCTL_NAMES.find(
    (name) => !Object.hasOwn(plugins, name) || tableAt(plugins, [name]).address === address,
  );
  return newEnough || free === undefined ? [PLUGIN] : [PLUGIN, free];
}

/** A list of one's own replaces containerd's, so that its only entry has to be said again. */
function unpacking(document: Table, names: readonly string[]): Change[] {
  const listed = unpackSnapshotters(document);
  const missing = [...(listed === undefined ? ['overlayfs'] : []), ...names].filter((name) => !listed?.includes(name));
  if (missing.length === 0) return [];
  const tables = missing.map((snapshotter) => ({ platform: 'linux', snapshotter }));
  return [{ kind: 'append', array: [...TRANSFER, 'unpack_config'], tables }];
}

/** What is so already stays as it stands. */
function withoutNeedless(changes: readonly Change[], document: Table): Change[] {
  return changes.flatMap((change): Change[] => {
    if (change.kind === 'append') return [change];
    const now = tableAt(document, change.table);
    const values = Object.fromEntries(Object.entries(change.values).filter(([key, value]) => now[key] !== value));
    return Object.keys(values).length === 0 ? [] : [{ ...change, values }];
  });
}
