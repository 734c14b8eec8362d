import { statSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import Database from 'better-sqlite3';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { OpenFiles, StoredImage, StoredMount, StoredOpenFile } from './cache.ts';
import { restartLog, runCheckpoint } from './checkpoint.ts';
import { type Log, messageOf } from './health.ts';

/**
 * The catalogue: SQLite, used on the thread that answers faults. So nothing here syncs while serving: WAL with
 * `synchronous=NORMAL` syncs only in checkpoints, and those run in a worker (at open and close: here).
 */
export const CATALOGUE_VERSION = 2;
/** `application_id` is this plus the version. */
const APPLICATION = 0x4e590000;
const SCHEMA = `
  CREATE TABLE blobs (
    ino INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    last_used INTEGER NOT NULL              -- Unix time, ms
  ) STRICT;
  CREATE TABLE images (
    digest TEXT PRIMARY KEY,                -- of the image manifest
    image TEXT NOT NULL                     -- StoredImage as JSON
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE mounts (
    directory TEXT PRIMARY KEY,
    mount TEXT NOT NULL                     -- StoredMount as JSON
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE checkpoints (id INTEGER PRIMARY KEY CHECK (id = 1), count INTEGER NOT NULL) STRICT;
  INSERT INTO checkpoints VALUES (1, 0);
`;

/** What version 2 has in addition. */
const SCHEMA_2 = `
  CREATE TABLE ranges (
    first INTEGER PRIMARY KEY,              -- inode number
    count INTEGER NOT NULL,
    name TEXT NOT NULL UNIQUE
  ) STRICT;
`;

/** Versions before it was added do not look at it. */
const SCHEMA_OPENS = `
  CREATE TABLE IF NOT EXISTS opens (
    handle INTEGER PRIMARY KEY,
    ino INTEGER NOT NULL,
    backing INTEGER NOT NULL
  ) STRICT;
`;

/** A WAL above this size is written back, bytes. */
const WAL_LIMIT = 4 * 1024 * 1024;
/** FUSE threads take 48 bits of an inode number. */
const END_INODES = 2 ** 48;

/** Writes between two looks at the size of the WAL. */
const LOOK_EVERY = 64;

/** Inode numbers that a new catalogue begins with: of blobs, and of ranges. */
export interface FirstNumbers {
  ino: number;
  range: number;
}

export interface BlobRow {
  ino: number;
  key: string;
  lastUsed: number;
}

export interface Catalogue {
  /** Bytes on disk, as they were lately. */
  readonly bytes: number;
  blobs(): BlobRow[];
  /** @returns the inode number, never used before */
  addBlob(key: string, lastUsed: number): number;
  /** Takes an entry in with the number it had. Throws if the key or the number is taken. */
  adoptBlob(row: BlobRow): void;
  touchBlob(ino: number, lastUsed: number): void;
  removeBlob(ino: number): void;

  /** As in Cache. */
  inodeRange(name: string, count: number): number;

  images(): StoredImage[];
  image(digest: OciDigest): StoredImage | undefined;
  putImage(image: StoredImage): void;
  removeImage(digest: OciDigest): void;

  mounts(): StoredMount[];
  putMount(mount: StoredMount): void;
  removeMount(directory: string): void;

  readonly openFiles: OpenFiles;

  /** Writes the WAL back and closes. */
  close(): Promise<void>;
}

/**
 * Opens or makes the catalogue. Synchronous work: for start-up.
 * @param first where inode numbers begin in a new catalogue
 * @throws an SQLite error if the file is damaged, NymphError `cache` if a newer version wrote it
 */
export function openCatalogue(path: string, first: FirstNumbers, log: Log): Catalogue {
  const database = new Database(path);
  try {
    prepareDatabase(database, path, first);
  } catch (error) {
    database.close();
    throw error;
  }
  const all = <Row>(sql: string) => database.prepare<[], Row>(sql);
  const selectBlobs = all<BlobRow>('SELECT ino, key, last_used AS lastUsed FROM blobs');
  const selectImages = all<{ image: string }>('SELECT image FROM images ORDER BY digest');
  const selectImage = database.prepare<[string], { image: string }>('SELECT image FROM images WHERE digest = ?');
  const selectMounts = all<{ mount: string }>('SELECT mount FROM mounts ORDER BY directory');
  const insertBlob = database.prepare<[string, number]>('REPLACE INTO blobs (key, last_used) VALUES (?, ?)');
  const insertAdopted = database.prepare<[number, string, number]>(
    'INSERT INTO blobs (ino, key, last_used) VALUES (?, ?, ?)',
  );
  const updateBlob = database.prepare<[number, number]>('UPDATE blobs SET last_used = ? WHERE ino = ?');
  const deleteBlob = database.prepare<[number]>('DELETE FROM blobs WHERE ino = ?');
  const selectRange = database.prepare<[string], { first: number; count: number }>(
    'SELECT first, count FROM ranges WHERE name = ?',
  );
  const selectEnd = all<{ end: number }>('SELECT max(first + count) AS "end" FROM ranges');
  const replaceRange = database.prepare<[number, number, string]>(
    'REPLACE INTO ranges (first, count, name) VALUES (?, ?, ?)',
  );
  const replaceImage = database.prepare<[string, string]>('REPLACE INTO images (digest, image) VALUES (?, ?)');
  const deleteImage = database.prepare<[string]>('DELETE FROM images WHERE digest = ?');
  const replaceMount = database.prepare<[string, string]>('REPLACE INTO mounts (directory, mount) VALUES (?, ?)');
  const deleteMount = database.prepare<[string]>('DELETE FROM mounts WHERE directory = ?');

  const selectOpens = all<StoredOpenFile>('SELECT handle, ino, backing FROM opens');
  const insertOpen = database.prepare<[number, number, number]>(
    'REPLACE INTO opens (handle, ino, backing) VALUES (?, ?, ?)',
  );
  const deleteOpen = database.prepare<[number]>('DELETE FROM opens WHERE handle = ?');

  let bytes = diskBytes(path);
  let writes = 0;
  let checkpoint: Promise<void> | undefined;
  const wrote = () => {
    if (++writes % LOOK_EVERY === 0) {
      checkpoint ??= shrinkWal(path)
        .then((now) => {
          bytes = now;
        })
        .catch((error) => log('warn', 'the WAL of the catalogue was not written back', { error: messageOf(error) }))
        .finally(() => {
          checkpoint = undefined;
        });
    }
  };

  return {
    get bytes() {
      return bytes;
    },
    blobs: () => selectBlobs.all(),
    addBlob(key, lastUsed) {
      const ino = Number(insertBlob.run(key, lastUsed).lastInsertRowid);
      wrote();
      return ino;
    },
    adoptBlob: (row) => void insertAdopted.run(row.ino, row.key, row.lastUsed),
    touchBlob(ino, lastUsed) {
      updateBlob.run(lastUsed, ino);
      wrote();
    },
    removeBlob(ino) {
      deleteBlob.run(ino);
      wrote();
    },
    inodeRange(name, count) {
      const known = selectRange.get(name);
      if (known?.count === count) return known.first;
      const first = selectEnd.get()!.end;
      if (first + count > END_INODES)
        throw new NymphError('unsupported', 'all inode numbers for trees of images have been given away', {
          hint: 'Stop the daemon and begin a new root directory.',
        });
      replaceRange.run(first, count, name);
      wrote();
      return first;
    },
    images: () => selectImages.all().map((row) => JSON.parse(row.image) as StoredImage),
    image(digest) {
      const row = selectImage.get(digest);
      return row && (JSON.parse(row.image) as StoredImage);
    },
    putImage(image) {
      replaceImage.run(image.digest, JSON.stringify(image));
      wrote();
    },
    removeImage(digest) {
      deleteImage.run(digest);
      wrote();
    },
    mounts: () => selectMounts.all().map((row) => JSON.parse(row.mount) as StoredMount),
    putMount(mount) {
      replaceMount.run(mount.directory, JSON.stringify(mount));
      wrote();
    },
    removeMount(directory) {
      deleteMount.run(directory);
      wrote();
    },
    openFiles: {
      list: () => selectOpens.all(),
      put({ handle, ino, backing }) {
        insertOpen.run(handle, ino, backing);
        wrote();
      },
      remove(handle) {
        deleteOpen.run(handle);
        wrote();
      },
    },
    async close() {
      await checkpoint;
      database.close();
    },
  };
}

function prepareDatabase(database: Database.Database, path: string, first: FirstNumbers): void {
  const version = Number(database.pragma('user_version', { simple: true }));
  if (version > CATALOGUE_VERSION) {
    // The version is kept twice: a flipped bit does not look like a newer nymph.
    if (database.pragma('application_id', { simple: true }) !== APPLICATION + version)
      throw new Database.SqliteError(`version ${version} is not confirmed`, 'SQLITE_CORRUPT');
    throw new NymphError('cache', `${path} has version ${version}; this nymph knows ${CATALOGUE_VERSION}`, {
      hint: 'A newer nymph wrote it: use that one, or choose another root directory.',
    });
  }
  database.pragma('journal_mode = WAL');
  database.pragma('synchronous = NORMAL');
  database.pragma('wal_autocheckpoint = 0');
  if (version < CATALOGUE_VERSION) {
    database.transaction(() => {
      if (version < 1) {
        database.exec(SCHEMA);
        database.prepare("INSERT INTO sqlite_sequence (name, seq) VALUES ('blobs', ?)").run(first.ino - 1);
      }
      database.exec(SCHEMA_2);
      // Of no name and no length: where the others begin.
      database.prepare("INSERT INTO ranges (first, count, name) VALUES (?, 0, '')").run(first.range);
      database.pragma(`application_id = ${APPLICATION + CATALOGUE_VERSION}`);
      database.pragma(`user_version = ${CATALOGUE_VERSION}`);
    })();
  }
  database.exec(SCHEMA_OPENS);
  const check = database.pragma('quick_check(1)', { simple: true });
  if (check !== 'ok') throw new Database.SqliteError(String(check), 'SQLITE_CORRUPT');
  // Every value is read once now, so that damage shows at start-up.
  for (const row of database.prepare<[], { json: string }>('SELECT image AS json FROM images').all())
    JSON.parse(row.json);
  for (const row of database.prepare<[], { json: string }>('SELECT mount AS json FROM mounts').all())
    JSON.parse(row.json);
  restartLog(database);
}

/** @returns bytes of the catalogue's files */
async function shrinkWal(path: string): Promise<number> {
  const wal = await stat(`${path}-wal`);
  if (wal.size > WAL_LIMIT) await runCheckpoint(path);
  return (await stat(path)).size + wal.size;
}

function diskBytes(path: string): number {
  return statSync(path).size + (statSync(`${path}-wal`, { throwIfNoEntry: false })?.size ?? 0);
}
