/** A snapshotter in this process, for tests of its parts: real records and directories, a disk and lazy layers of the test's choice. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import Database from 'better-sqlite3';
import { openDirectories } from '../src/snapshotter/directories.ts';
import { type Disk, localDisk } from '../src/snapshotter/disk.ts';
import { createDurability } from '../src/snapshotter/durability.ts';
import type { LazyLayers } from '../src/snapshotter/lazy.ts';
import { createSnapshotter } from '../src/snapshotter/service.ts';
import type { Snapshotter } from '../src/snapshotter/snapshotter.ts';
import { openStore, type Store } from '../src/snapshotter/store.ts';
import type { ThreadPool } from '../src/threads/pool.ts';

export interface Kit {
  snapshotter: Snapshotter;
  /** The directory with those of the snapshots. */
  home: string;
  lines: { level: string; message: string; fields?: Record<string, unknown> }[];
}

export interface KitOptions {
  disk?: Disk;
  lazy?: LazyLayers;
  /** Puts something in front of the store. */
  store?: (store: Store) => Store;
  /** Called before each sync of the records. */
  beforeSync?: () => void;
  aroundSync?: (sync: () => Promise<void>) => Promise<void>;
  patience?: number;
  pool: ThreadPool;
}

export async function openKit(root: string, options: KitOptions): Promise<Kit> {
  const { pool, disk = localDisk, lazy, beforeSync = () => {}, aroundSync = (sync) => sync(), patience } = options;
  mkdirSync(root, { recursive: true });
  const lines: Kit['lines'] = [];
  const log = (level: string, message: string, fields?: Record<string, unknown>) =>
    void lines.push({ level, message, fields });
  const directories = openDirectories(root, disk, pool, log);
  const path = join(directories.root, 'metadata.db');
  const real = openStore(path);
  const store = options.store?.(real) ?? real;
  const durability = await createDurability(path, log);
  const { sync } = durability;
  durability.sync = async () => {
    beforeSync();
    return aroundSync(sync);
  };
  const snapshotter = await createSnapshotter({
    store,
    durability,
    directories,
    lazy,
    log,
    overlayOptions: ['index=off'],
    patience,
  });
  return { snapshotter, home: directories.root, lines };
}

/**
 * Ids that have a directory, and names in the trash. Not those above all that were ever recorded: they were made for the
 * next calls (`spares.ts`), and are few.
 */
export function onDisk(home: string): { ids: number[]; trash: string[] } {
  const all = readdirSync(home)
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .sort((a, b) => a - b);
  const last = lastRecorded(join(home, 'metadata.db'));
  const ids = all.filter((id) => id <= last);
  assert.ok(all.length - ids.length <= 8, `directories above ${last}: ${all}`);
  return { ids, trash: readdirSync(join(home, 'trash')) };
}

function lastRecorded(path: string): number {
  const database = new Database(path, { readonly: true });
  const last = database.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'").pluck().get();
  database.close();
  return last ?? 0;
}

export const never = new AbortController().signal;
