import { Worker } from 'node:worker_threads';
import type Database from 'better-sqlite3';

/** Writes the WAL of a database back, in a thread of its own: it syncs, which can take seconds on a slow disk. */
export function runCheckpoint(path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL(`./checkpoint-thread${import.meta.url.slice(-3)}`, import.meta.url), {
      workerData: path,
    });
    worker.once('error', reject);
    worker.once('exit', (code) =>
      code === 0 ? resolve() : reject(new Error(`the checkpoint thread ended with ${code}`)),
    );
  });
}

/**
 * Writes the WAL back and begins it anew. Synchronous work, for start-up: the first write syncs the header of the WAL, and
 * later it would hold up the thread that answers faults.
 */
export function restartLog(database: Database.Database): void {
  database.pragma('wal_checkpoint(TRUNCATE)');
  database.prepare('UPDATE checkpoints SET count = count + 1').run();
}
