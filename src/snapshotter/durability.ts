import { type FileHandle, open } from 'node:fs/promises';
import { runCheckpoint } from '../cache/checkpoint.ts';
import { type Log, messageOf } from '../cache/health.ts';
import { shared } from './shared.ts';

/**
 * When the records are safe. One sync serves everybody who waits: calls that come while one runs share the next, so 50
 * clients cost as many syncs as the disk can do, and the main thread none.
 */
export interface Durability {
  /** Resolves when what is recorded now survives a power cut. Rejects with the disk's error. */
  sync(): Promise<void>;
  close(): Promise<void>;
}

/** A log above this size is written back, bytes; so much room is made in it at the start. */
const WAL_LIMIT = 2 << 20;
/** Syncs between two looks at its size. */
const LOOK_EVERY = 256;

/** @param path of the database, which stays open meanwhile: so the log stays one file, and nobody writes to it before this resolves */
export async function createDurability(path: string, log: Log): Promise<Durability> {
  const wal = await open(`${path}-wal`, 'r+');
  await makeRoom(wal, log);
  let syncs = 0;
  let checkpoint: Promise<void> | undefined;
  const sync = shared(() => {
    if (++syncs % LOOK_EVERY === 0) writeBack();
    return syncLog();
  });

  async function syncLog(): Promise<void> {
    try {
      await wal.datasync();
    } catch (error) {
      log('error', 'the log of the snapshots cannot be synced', { error: messageOf(error) });
      // The kernel does not write the lost pages again, and the next sync would say that all is well. It still has them in
      // memory, from where they go to the database.
      await runCheckpoint(path);
    }
  }

  function writeBack(): void {
    checkpoint ??= shrink(path, wal)
      .catch((error) => log('warn', 'the log of the snapshots was not written back', { error: messageOf(error) }))
      .finally(() => {
        checkpoint = undefined;
      });
  }

  return {
    sync,
    async close() {
      await sync().catch(() => undefined);
      await checkpoint;
      await wal.close();
    },
  };
}

/**
 * Fills the log with zeros up to {@link WAL_LIMIT}. What is written in place needs nothing of the file system's journal,
 * so a sync of it waits neither for that nor for directories that are being made. SQLite ends at what is no frame.
 */
async function makeRoom(wal: FileHandle, log: Log): Promise<void> {
  try {
    const { size } = await wal.stat();
    if (size < WAL_LIMIT) await wal.write(Buffer.alloc(WAL_LIMIT - size), 0, WAL_LIMIT - size, size);
  } catch (error) {
    // On a full disk it grows as it is written, as long as it can.
    log('debug', 'the log of the snapshots has no room made in advance', { error: messageOf(error) });
  }
}

async function shrink(path: string, wal: FileHandle): Promise<void> {
  if ((await wal.stat()).size > WAL_LIMIT) await runCheckpoint(path);
}
