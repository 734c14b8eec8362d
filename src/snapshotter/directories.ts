import { randomBytes } from 'node:crypto';
import { closeSync, mkdirSync, openSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Log, messageOf } from '../cache/health.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { Disk } from './disk.ts';
import { requireEntryTypes } from './entry-types.ts';
import type { Owner } from './lazy.ts';
import type { RemovalInput, RemovalOutput } from './removal-job.ts';
import { shared } from './shared.ts';
import type { Usage } from './snapshotter.ts';
import { createMeter } from './usage.ts';
import type { UsageInput, UsageOutput } from './usage-job.ts';

/**
 * The directories of snapshots. They are made whole before their record is, and renamed into the trash after it is gone.
 *
 *   <root>/snapshots/metadata.db     the records
 *   <root>/snapshots/<id>/fs         a snapshot's own content: the upper directory, later a lower one
 *   <root>/snapshots/<id>/work       what overlayfs works in; only below what is or was writable
 *   <root>/snapshots/images/         mounts of images that are served lazily (`lazy-images.ts`)
 *   <root>/snapshots/trash/          removed, and being deleted
 */
export interface Directories {
  /** Absolute, without links. */
  readonly root: string;
  /** All of a snapshot. */
  place(id: number): string;
  fs(id: number): string;
  work(id: number): string;
  /** Owner of the directory `fs` of a snapshot. */
  owner(id: number): Promise<Owner>;
  /** Makes the directories of a snapshot; they are durable after their `sync`. */
  make(id: number): Promise<void>;
  /** Gives the directory `fs`, which was just made, its owner. */
  own(id: number, owner: Owner): Promise<void>;
  /** Resolves when the directories of a snapshot, as made and owned now, would survive a power cut. */
  sync(id: number): Promise<void>;
  /** Takes the directories of a snapshot out of the way, and begins to delete them. What is absent is so already. */
  discard(id: number): Promise<void>;
  /** Discards every directory whose id is not in use. Resolves when the trash is empty, as far as it can be. @param ids of what is recorded or being made */
  clean(ids: () => Set<number>): Promise<void>;
  /** What the directory `fs` of a snapshot takes on disk. */
  usage(id: number): Promise<Usage>;
  /** Ids that have a directory. Synchronous: for start-up. */
  present(): Set<number>;
  close(): Promise<void>;
}

const REMOVE = jobBeside<RemovalInput, RemovalOutput>(import.meta.url, 'removal-job');
const MEASURE = jobBeside<UsageInput, UsageOutput>(import.meta.url, 'usage-job');
/** Between a removal and the deleting of what it left, ms: those of one collection of garbage go together. */
const TRASH_MS = 250;
/** Of one job, ms: the same threads decode what readers wait for. */
const JOB_MS = 10;
/** Owner of what the daemon makes. */
const OURS = 0;
/** Of the directory `fs`: the root of a container. */
export const FS_MODE = 0o755;
const WORK_MODE = 0o711;

/** Synchronous work at the start: makes what is missing. @param root of nymph */
export function openDirectories(root: string, disk: Disk, pool: ThreadPool, log: Log): Directories {
  mkdirSync(join(root, 'snapshots'), { recursive: true, mode: 0o700 });
  // Containers' mounts name it for years: a link on the way could be changed.
  const home = realpathSync(join(root, 'snapshots'));
  requireEntryTypes(home);
  const trash = join(home, 'trash');
  mkdirSync(trash, { recursive: true, mode: 0o700 });
  const mask = Number.parseInt(/^Umask:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'latin1'))![1], 8);
  const place = (id: number) => join(home, String(id));
  const fs = (id: number) => join(place(id), 'fs');
  const work = (id: number) => join(place(id), 'work');
  const descriptor = openSync(home, 'r');
  /** Ids whose directories changed since they were synced, each with the number of that change. */
  const unsynced = new Map<number, number>();
  let changes = 0;
  const syncAll = shared(async () => {
    const before = [...unsynced];
    await disk.syncDirectory(descriptor);
    for (const [id, change] of before) if (unsynced.get(id) === change) unsynced.delete(id);
  });
  /** Jobs go one after another: they must not take all the threads. */
  let turn: Promise<unknown> = Promise.resolve();
  const meter = createMeter((input) => inTurn(() => pool.run(MEASURE, input, QUIETLY)));
  let emptying: Promise<void> | undefined;
  let soon: NodeJS.Timeout | undefined;
  let again = false;
  let closed = false;

  async function makeDirectory(path: string, mode: number): Promise<void> {
    await disk.mkdir(path, mode);
    if ((mode & mask) !== 0) await disk.chmod(path, mode);
  }

  async function make(id: number): Promise<void> {
    await disk.mkdir(place(id), 0o700);
    await Promise.all([makeDirectory(fs(id), FS_MODE), makeDirectory(work(id), WORK_MODE)]);
    unsynced.set(id, ++changes);
  }

  async function discard(id: number): Promise<void> {
    unsynced.delete(id);
    try {
      await disk.rename(place(id), join(trash, `${id}-${randomBytes(6).toString('hex')}`));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    soon ??= setTimeout(() => void emptyTrash(), TRASH_MS).unref();
  }

  /** One at a time; who asks while it runs gets it run again. */
  function emptyTrash(): Promise<void> {
    clearTimeout(soon);
    soon = undefined;
    again = true;
    emptying ??= (async () => {
      while (again && !closed) {
        again = false;
        await emptyOnce();
      }
    })()
      .catch((error) => {
        if (!closed) log('warn', 'removed snapshots were not deleted', { error: messageOf(error) });
      })
      .finally(() => {
        emptying = undefined;
      });
    return emptying;
  }

  async function emptyOnce(): Promise<void> {
    let stuck: string[] = [];
    for (;;) {
      const prefix = `${randomBytes(6).toString('hex')}-`;
      const answer = await inTurn(() => pool.run(REMOVE, { trash, stuck, prefix, time: JOB_MS }, QUIETLY));
      stuck = answer.stuck;
      if (!answer.done) continue;
      if (stuck.length > 0) log('warn', 'a removed snapshot is still in use', { directories: stuck, why: answer.why });
      return;
    }
  }

  function inTurn<T>(act: () => Promise<T>): Promise<T> {
    const mine = turn.then(act);
    turn = mine.catch(() => undefined);
    return mine;
  }

  function idsIn(names: readonly string[]): number[] {
    return names.filter((name) => /^[1-9]\d{0,14}$/.test(name)).map(Number);
  }

  return {
    root: home,
    place,
    fs,
    work,
    owner: (id) => disk.owner(fs(id)),
    make,
    async own(id, { uid, gid }) {
      if (uid === OURS && gid === OURS) return;
      await disk.chown(fs(id), uid, gid);
      unsynced.set(id, ++changes);
    },
    sync: async (id) => {
      if (unsynced.has(id)) await syncAll();
    },
    discard,
    async clean(ids) {
      // In this order: what has a directory and no record is garbage, whatever happens meanwhile.
      const names = await readdir(home);
      const known = ids();
      for (const id of idsIn(names)) if (!known.has(id)) await discard(id);
      await emptyTrash();
    },
    usage: (id) => meter.measure(fs(id)),
    present: () => new Set(idsIn(readdirSync(home))),
    async close() {
      closed = true;
      clearTimeout(soon);
      meter.close();
      await emptying;
      closeSync(descriptor);
    },
  };
}

const QUIETLY = { priority: 'prefetch' } as const;
