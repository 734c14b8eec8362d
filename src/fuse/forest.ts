import { attachReadyMap, isClosed, type ReadyMap } from '../cache/ready-map.ts';
import { type Attributes, type Names, TREE_GRAIN } from './driver.ts';
import type { TreeData } from './message.ts';
import { openTree, type Tree } from './tree.ts';

/** The trees that a thread serves, by inode number. */
export interface Forest {
  add(tree: TreeData): void;
  remove(first: number): void;
  /** The tree that an inode belongs to; `undefined` also for one that is being closed. */
  treeOf(ino: number): Tree | undefined;
  /** The directory of the trees, as far as looking one up goes. */
  readonly directory: Names;
}

interface Entry {
  data: TreeData;
  present: ReadyMap;
  /** Opened when it is first needed: that reads the bootstrap. */
  tree: Tree | undefined;
}

/** Name of a tree in the directory of the trees. Numbers are never used again, and so are names: the kernel remembers both. */
export function treeName(first: number): string {
  return String(first);
}

export function createForest(): Forest {
  const grains = new Map<number, Entry>();

  function eachGrain({ first, bytes }: TreeData, change: (grain: number) => void): void {
    const grain = first / TREE_GRAIN;
    for (let i = 0; i < grainsOf(bytes.byteLength); i++) change(grain + i);
  }

  function treeOf(ino: number): Tree | undefined {
    const entry = grains.get(Math.floor(ino / TREE_GRAIN));
    if (entry === undefined) return undefined;
    // Before it is opened: of one that is closed the descriptor may be another file's by now.
    if (isClosed(entry.present)) {
      remove(entry.data.first);
      return undefined;
    }
    entry.tree ??= openTree(entry.data);
    return entry.tree;
  }

  function remove(first: number): void {
    const entry = grains.get(first / TREE_GRAIN);
    if (entry !== undefined) eachGrain(entry.data, (grain) => grains.delete(grain));
  }

  function rootOf(name: string): Attributes | undefined {
    const tree = /^[1-9]\d{0,15}$/.test(name) ? treeOf(Number(name)) : undefined;
    return tree?.first === Number(name) ? tree.root() : undefined;
  }

  return {
    add(data) {
      const entry: Entry = { data, present: attachReadyMap(data.present), tree: undefined };
      eachGrain(data, (grain) => grains.set(grain, entry));
    },
    remove,
    treeOf,
    directory: {
      lookup: (_, name) => rootOf(Buffer.from(name).toString('latin1')),
      getattr: () => undefined,
      readdir: () => false,
    },
  };
}

/** How many times {@link TREE_GRAIN} inode numbers a bootstrap of `size` bytes takes: it has one inode in 32 bytes at most. */
export function grainsOf(size: number): number {
  return Math.ceil(size / 32 / TREE_GRAIN);
}
