import { parseFilters } from './filters.ts';
import type { Info, Snapshotter } from './snapshotter.ts';

/** The calls that plugins make. */
export type PluginSnapshots = Omit<Snapshotter, 'used' | 'close'>;

/**
 * The snapshots of one plugin of containerd: it sees its own and no others. containerd may have us under several names,
 * and counts and collects garbage for each by itself: names of two plugins can be equal, and what one plugin does not
 * know it removes. In the records the plugin's name stands in front.
 */
export function ofPlugin(all: Snapshotter, plugin: string): PluginSnapshots {
  const scope = `${plugin}/`;
  const inner = (name: string) => (name === '' ? '' : scope + name);
  const outer = (name: string) => name.slice(scope.length);
  const shown = (info: Info): Info => ({ ...info, name: outer(info.name), parent: outer(info.parent) });

  async function* list(filters: readonly string[]): AsyncGenerator<Info[]> {
    // Filters speak of names as the plugin knows them.
    const matches = parseFilters(filters);
    for await (const infos of all.list([])) {
      const own = infos
        .filter((info) => info.name.startsWith(scope))
        .map(shown)
        .filter(matches);
      if (own.length > 0) yield own;
    }
  }

  return {
    prepare: (key, parent, labels, signal) => all.prepare(inner(key), inner(parent), labels, signal),
    view: (key, parent, labels, signal) => all.view(inner(key), inner(parent), labels, signal),
    mounts: (key, signal) => all.mounts(inner(key), signal),
    commit: (name, key, labels, parent) => all.commit(inner(name), inner(key), labels, inner(parent)),
    remove: (key) => all.remove(inner(key)),
    stat: (key) => shown(all.stat(inner(key))),
    update: async (key, labels, paths) => shown(await all.update(inner(key), labels, paths)),
    list,
    usage: (key) => all.usage(inner(key)),
    cleanup: all.cleanup,
  };
}
