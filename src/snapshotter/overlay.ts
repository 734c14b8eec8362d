import { NymphError } from '../errors.ts';
import { MOST_OPTIONS } from '../mount/kernel.ts';
import type { Owner } from './lazy.ts';
import { LABEL_GID_MAP, LABEL_TARGET, LABEL_UID_MAP, LABEL_VOLATILE, type Labels, type Mount } from './snapshotter.ts';

/** The mounts by which a snapshot is seen: a bind mount of one directory, or an overlay of several. No I/O. */

export interface Seen {
  kind: 'active' | 'view';
  labels: Labels;
  /** Directory of its own content, and the one that overlayfs works in. */
  upper: string;
  work: string;
  /** Directories below it, nearest first. */
  lowers: readonly string[];
  /** One of them is a mount: the image that is served lazily. */
  lazy?: boolean;
  /** The files below have the owners that the maps of the labels ask for. */
  remapped?: boolean;
  /** What this kernel wants on every overlay (`kernel-options.ts`). */
  options: readonly string[];
}

export function mountsOf({
  kind,
  labels,
  upper,
  work,
  lowers,
  lazy = false,
  remapped = false,
  options,
}: Seen): Mount[] {
  const mapped = remapped ? [] : mapOptions(labels);
  const single = lowers.length === 0 ? upper : kind === 'view' && lowers.length === 1 ? lowers[0] : undefined;
  if (single !== undefined)
    return [{ type: 'bind', source: single, options: [...mapped, kind === 'view' ? 'ro' : 'rw', 'rbind'] }];
  const all = [...mapped, ...options];
  if (kind === 'active') {
    // A layer that is being unpacked will be committed: it has to reach the disk.
    if (labels[LABEL_VOLATILE] !== undefined && labels[LABEL_TARGET] === undefined) all.push('volatile');
    all.push(`workdir=${work}`, `upperdir=${upper}`);
  }
  all.push(`lowerdir=${mapped.length > 0 ? mappable(lowers, lazy) : lowers.join(':')}`);
  refuseTooLong(all, lowers);
  return [{ type: 'overlay', source: 'overlay', options: all }];
}

/**
 * containerd maps ids in a copy of the mount that holds all lower directories, and finds it by the directory above the
 * last slash. Mounts below are not part of the copy: a lazy image would be an empty directory there. So that image alone
 * is named by a path with its own root above the last slash, and one with layers on top is refused.
 */
function mappable(lowers: readonly string[], lazy: boolean): string {
  if (lowers.length === 1) return `${lowers[0]}/.`;
  if (lazy)
    throw new NymphError('unsupported', 'containerd cannot map the ids of layers that build on a lazily served image', {
      hint: 'Run the container without a user namespace, or unpack its image: pull it with another snapshotter.',
    });
  return lowers.join(':');
}

/** First of all options, where containerd looks for them. */
function mapOptions(labels: Labels): string[] {
  const options: string[] = [];
  if (labels[LABEL_UID_MAP] !== undefined) options.push(`uidmap=${labels[LABEL_UID_MAP]}`);
  if (labels[LABEL_GID_MAP] !== undefined) options.push(`gidmap=${labels[LABEL_GID_MAP]}`);
  return options;
}

/**
 * mount(2) takes one page of options. containerd makes them shorter by mounting from the longest directory that all
 * lower ones have in common, and names them from there.
 */
function refuseTooLong(options: readonly string[], lowers: readonly string[]): void {
  const common = commonDirectory(lowers);
  const saved = common.length > 1 ? lowers.length * (Buffer.byteLength(common) + 1) : 0;
  const length = Buffer.byteLength(options.join(',')) - saved;
  if (length > MOST_OPTIONS)
    throw new NymphError(
      'unsupported',
      `${lowers.length} layers make mount options of ${length} bytes; the kernel takes ${MOST_OPTIONS}`,
      {
        hint: 'Use a shorter root directory, or an image of fewer layers.',
      },
    );
}

function commonDirectory(paths: readonly string[]): string {
  const parts = paths.map((path) => path.split('/').slice(0, -1));
  const [first] = parts;
  let shared = first.length;
  for (const other of parts) {
    let same = 0;
    while (same < shared && other[same] === first[same]) same++;
    shared = same;
  }
  return first.slice(0, shared).join('/');
}

/** Ids are 32 bits, and the highest stands for none. */
const MOST_ID = 0xffff_fffe;

/**
 * Who owns the root directory of a snapshot with mapped ids: root of the container, as the host knows it. `undefined`
 * without maps.
 * @throws NymphError `usage` for labels that are no maps or do not map root
 */
export function mappedOwner(labels: Labels): Owner | undefined {
  if (labels[LABEL_UID_MAP] === undefined && labels[LABEL_GID_MAP] === undefined) return undefined;
  return { uid: hostRoot(labels, LABEL_UID_MAP), gid: hostRoot(labels, LABEL_GID_MAP) };
}

function hostRoot(labels: Labels, key: string): number {
  const text = labels[key] ?? '';
  const wrong = (why: string) => new NymphError('usage', `the label ${key}=${JSON.stringify(text)} ${why}`);
  let root: number | undefined;
  for (const range of text.split(',')) {
    const [, inside, outside, size] = /^(\d{1,10}):(\d{1,10}):(\d{1,10})$/.exec(range)?.map(Number) ?? [];
    if (size === undefined) throw wrong('is no list of container id:host id:size');
    if (size < 1 || Math.max(inside, outside) + size - 1 > MOST_ID) throw wrong('has ids beyond 32 bits');
    if (inside === 0) root ??= outside;
  }
  if (root === undefined) throw wrong('does not map the user 0');
  return root;
}
