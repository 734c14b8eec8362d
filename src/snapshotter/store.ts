import Database from 'better-sqlite3';
import { restartLog } from '../cache/checkpoint.ts';
import { NymphError } from '../errors.ts';
import { now } from './clock.ts';
import type { Kind, Labels, Usage } from './snapshotter.ts';

/**
 * The records: which snapshots there are, what they build on, their labels. It knows nothing of directories and mounts.
 *
 * SQLite on the main thread, so nothing here syncs: WAL with `synchronous=NORMAL`. A change is durable after the next
 * `sync` (`durability.ts`) and never in part: SQLite takes of a log what is whole. Until then other calls see it already.
 */
export interface Store {
  get(name: string): SnapshotRecord | undefined;
  nameOf(id: number): string | undefined;
  /** The snapshot itself and all below it, nearest first; empty if there is none. */
  chain(name: string): SnapshotRecord[];
  /** In order of their ids, beginning after `after`. */
  page(after: number, count: number): SnapshotRecord[];
  ids(): Set<number>;
  /** The highest id that was ever recorded. */
  lastId(): number;
  /** @throws `exists`, `not-found` or `usage` as `Snapshotter.prepare` says */
  create(snapshot: NewSnapshot): SnapshotRecord;
  /** @throws as `Snapshotter.commit` says */
  commit(key: string, name: string, labels: Labels, parent: string): SnapshotRecord;
  setLabels(name: string, labels: Labels): SnapshotRecord;
  setUsage(id: number, usage: Usage): void;
  /** @throws `not-found`, `precondition` */
  remove(name: string): SnapshotRecord;
  /** Writes the log back into the database; it may block, so it is for start and end. */
  close(): void;
}

export interface SnapshotRecord {
  /** Never used again, and the name of its directory. */
  readonly id: number;
  readonly name: string;
  /** Empty without one. */
  readonly parent: string;
  readonly parentId: number | undefined;
  readonly kind: Kind;
  readonly labels: Labels;
  /** Nanoseconds since 1970. */
  readonly created: bigint;
  readonly updated: bigint;
  /** Of a committed one, once it was measured. */
  readonly usage: Usage | undefined;
  /** It was committed because its content is served lazily. */
  readonly lazy: boolean;
}

export interface NewSnapshot {
  id: number;
  name: string;
  parent: string;
  /** `committed` only for lazy ones. */
  kind: Kind;
  labels: Labels;
}

export const SNAPSHOTS_VERSION = 1;
/** "NYS" and the version. */
const APPLICATION = 0x4e595300;
const SCHEMA = `
  CREATE TABLE snapshots (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    parent INTEGER REFERENCES snapshots (id),
    kind TEXT NOT NULL,                     -- Kind
    lazy INTEGER NOT NULL,                  -- 0 or 1
    labels TEXT NOT NULL,                   -- JSON
    created INTEGER NOT NULL,               -- Unix time, ns
    updated INTEGER NOT NULL,
    size INTEGER,                           -- bytes, as measured
    inodes INTEGER
  ) STRICT;
  CREATE INDEX children ON snapshots (parent);
  -- Written after the log was written back: see cache/checkpoint-thread.ts.
  CREATE TABLE checkpoints (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL) STRICT;
  INSERT INTO checkpoints VALUES (1, 0);
`;

interface Row {
  id: bigint;
  name: string;
  parent: string | null;
  parentId: bigint | null;
  kind: Kind;
  lazy: bigint;
  labels: string;
  created: bigint;
  updated: bigint;
  size: bigint | null;
  inodes: bigint | null;
}

/** A join instead of the inner query takes four times as long. */
const COLUMNS = `s.id, s.name, (SELECT name FROM snapshots WHERE id = s.parent) AS parent, s.parent AS parentId, s.kind,
  s.lazy, s.labels, s.created, s.updated, s.size, s.inodes`;

/**
 * Opens or makes the database. Synchronous work: for start-up.
 * @throws NymphError `cache` if it is damaged or of a newer version
 */
export function openStore(path: string): Store {
  const database = new Database(path);
  try {
    prepareDatabase(database, path);
  } catch (error) {
    database.close();
    if (error instanceof NymphError) throw error;
    throw new NymphError('cache', `the records of snapshots in ${path} cannot be read: ${(error as Error).message}`, {
      cause: error,
      hint: 'If the disk is sound: stop containerd, move that directory away, start again, and have containerd forget the snapshots of nymph.',
    });
  }
  const read = <Args extends unknown[]>(sql: string) => database.prepare<Args, Row>(sql).safeIntegers();
  const selectOne = read<[string]>(`SELECT ${COLUMNS} FROM snapshots AS s WHERE s.name = ?`);
  const selectPage = read<[number, number]>(
    `SELECT ${COLUMNS} FROM snapshots AS s WHERE s.id > ? ORDER BY s.id LIMIT ?`,
  );
  const selectChain = read<[string]>(`
    WITH RECURSIVE chain (id, parent, depth) AS (
      SELECT id, parent, 0 FROM snapshots WHERE name = ?
      UNION ALL SELECT below.id, below.parent, depth + 1 FROM chain JOIN snapshots AS below ON below.id = chain.parent
    )
    SELECT ${COLUMNS} FROM chain JOIN snapshots AS s ON s.id = chain.id ORDER BY chain.depth`);
  const selectName = database.prepare<[number], string>('SELECT name FROM snapshots WHERE id = ?').pluck();
  const selectIds = database.prepare<[], number>('SELECT id FROM snapshots').pluck();
  const selectLast = database.prepare<[], number>("SELECT seq FROM sqlite_sequence WHERE name = 'snapshots'").pluck();
  const selectChild = database.prepare<[number], string>('SELECT name FROM snapshots WHERE parent = ? LIMIT 1').pluck();
  const insert = database.prepare<[number, string, number | null, Kind, number, string, bigint, bigint]>(
    'INSERT INTO snapshots (id, name, parent, kind, lazy, labels, created, updated) VALUES (?, ?, ?, ?, ?, ?, ?, ?)',
  );
  const updateCommitted = database.prepare<[string, number | null, string, bigint, bigint, number]>(
    "UPDATE snapshots SET name = ?, parent = ?, kind = 'committed', labels = ?, created = ?, updated = ? WHERE id = ?",
  );
  const updateLabels = database.prepare<[string, bigint, number]>(
    'UPDATE snapshots SET labels = ?, updated = ? WHERE id = ?',
  );
  const updateUsage = database.prepare<[number, number, number]>(
    "UPDATE snapshots SET size = ?, inodes = ? WHERE id = ? AND kind = 'committed'",
  );
  const deleteOne = database.prepare<[number]>('DELETE FROM snapshots WHERE id = ?');

  function get(name: string): SnapshotRecord | undefined {
    const row = selectOne.get(name);
    return row && recordOf(row);
  }

  function known(name: string): SnapshotRecord {
    const record = get(name);
    if (record === undefined) throw new NymphError('not-found', `no snapshot ${name} is here`);
    return record;
  }

  /** Runs what gives a snapshot a name. */
  function named(name: string, act: () => void): void {
    try {
      act();
    } catch (error) {
      if ((error as { code?: unknown }).code !== 'SQLITE_CONSTRAINT_UNIQUE') throw error;
      throw new NymphError('exists', `a snapshot ${name} is here`);
    }
  }

  return {
    get,
    nameOf: (id) => selectName.get(id),
    chain: (name) => selectChain.all(name).map(recordOf),
    page: (after, count) => selectPage.all(after, count).map(recordOf),
    ids: () => new Set(selectIds.all()),
    lastId: () => selectLast.get() ?? 0,
    create({ id, name, parent, kind, labels }) {
      const below = parent === '' ? undefined : known(parent);
      if (below !== undefined && below.kind !== 'committed')
        throw new NymphError('usage', `the snapshot ${parent} cannot be built on: it is not committed`);
      const time = now();
      const lazy = kind === 'committed';
      named(name, () => {
        insert.run(id, name, below?.id ?? null, kind, lazy ? 1 : 0, JSON.stringify(labels), time, time);
      });
      const parentId = below?.id;
      return { id, name, parent, parentId, kind, labels, created: time, updated: time, usage: undefined, lazy };
    },
    commit(key, name, labels, parent) {
      const active = known(key);
      if (active.kind !== 'active')
        throw new NymphError('precondition', `the snapshot ${key} cannot be committed: it is ${active.kind}`);
      const base = parent === '' ? active : rebased(active, parent);
      const time = now();
      named(name, () => {
        updateCommitted.run(name, base.parentId ?? null, JSON.stringify(labels), time, time, active.id);
      });
      return { ...active, ...base, name, kind: 'committed', labels, created: time, updated: time };
    },
    setLabels(name, labels) {
      const record = known(name);
      const updated = now();
      updateLabels.run(JSON.stringify(labels), updated, record.id);
      return { ...record, labels, updated };
    },
    setUsage: (id, { size, inodes }) => void updateUsage.run(size, inodes, id),
    remove(name) {
      const record = known(name);
      const child = selectChild.get(record.id);
      if (child !== undefined)
        throw new NymphError('precondition', `cannot remove the snapshot ${name}: ${child} builds on it`);
      deleteOne.run(record.id);
      return record;
    },
    close() {
      database.close();
    },
  };

  /** The parent that a client gives at the end to what it prepared without one. */
  function rebased(active: SnapshotRecord, parent: string): Pick<SnapshotRecord, 'parent' | 'parentId'> {
    if (active.parent === parent) return active;
    if (active.parent !== '')
      throw new NymphError('usage', `the snapshot ${active.name} has the parent ${active.parent}, not ${parent}`);
    const below = known(parent);
    if (below.kind !== 'committed')
      throw new NymphError('precondition', `the snapshot ${parent} cannot be built on: it is not committed`);
    return { parent, parentId: below.id };
  }
}

function recordOf(row: Row): SnapshotRecord {
  return {
    id: Number(row.id),
    name: row.name,
    parent: row.parent ?? '',
    parentId: row.parentId === null ? undefined : Number(row.parentId),
    kind: row.kind,
    labels: JSON.parse(row.labels) as Labels,
    created: row.created,
    updated: row.updated,
    usage: row.size === null ? undefined : { size: Number(row.size), inodes: Number(row.inodes) },
    lazy: row.lazy === 1n,
  };
}

function prepareDatabase(database: Database.Database, path: string): void {
  const version = Number(database.pragma('user_version', { simple: true }));
  if (version > SNAPSHOTS_VERSION && database.pragma('application_id', { simple: true }) === APPLICATION + version)
    throw new NymphError('cache', `${path} has version ${version}; this nymph knows ${SNAPSHOTS_VERSION}`, {
      hint: 'A newer nymph wrote it: use that one.',
    });
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  database.pragma('wal_autocheckpoint = 0');
  if (version < SNAPSHOTS_VERSION) {
    database.transaction(() => {
      database.exec(SCHEMA);
      database.pragma(`application_id = ${APPLICATION + SNAPSHOTS_VERSION}`);
      database.pragma(`user_version = ${SNAPSHOTS_VERSION}`);
    })();
  }
  const check = database.pragma('quick_check(1)', { simple: true });
  if (check !== 'ok') throw new Database.SqliteError(String(check), 'SQLITE_CORRUPT');
  restartLog(database);
}
