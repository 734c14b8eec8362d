import type { Directories } from './directories.ts';
import type { LazyLayers, Lowers } from './lazy.ts';
import { mountsOf } from './overlay.ts';
import { LABEL_REMAPPED, type Labels, type Mount } from './snapshotter.ts';
import type { SnapshotRecord } from './store.ts';

/** What is below a snapshot; nothing of it where there are no layers. */
export interface Below extends Lowers {
  /** One of the directories is a lazily served image. */
  lazy: boolean;
  /** The nearest has the owners of a user namespace. */
  remapped: boolean;
}

/** How snapshots are seen: from records to the mounts that containerd makes. */
export interface Views {
  /** May wait for a lazy image to be mounted. @param ancestors nearest first */
  below(id: number, ancestors: readonly SnapshotRecord[], signal: AbortSignal): Promise<Partial<Below>>;
  mountsOn(id: number, kind: 'active' | 'view', labels: Labels, below: Partial<Below>): Mount[];
}

export function createViews({
  directories,
  lazy,
  overlayOptions,
}: {
  directories: Directories;
  lazy?: LazyLayers;
  overlayOptions: readonly string[];
}): Views {
  return {
    async below(id, ancestors, signal) {
      if (ancestors.length === 0) return {};
      const lowers = await lazy?.lowers(id, ancestors, signal);
      const own = ancestors.map((ancestor) => directories.fs(ancestor.id));
      const remapped = ancestors[0].labels[LABEL_REMAPPED] !== undefined;
      if (lowers === undefined) return { directories: own, owner: await directories.owner(ancestors[0].id), remapped };
      return { ...lowers, lazy: !lowers.directories.every((path) => own.includes(path)), remapped };
    },
    mountsOn: (id, kind, labels, { directories: lowers = [], lazy: isLazy, remapped }) =>
      mountsOf({
        kind,
        labels,
        upper: directories.fs(id),
        work: directories.work(id),
        lowers,
        lazy: isLazy,
        remapped,
        options: overlayOptions,
      }),
  };
}
