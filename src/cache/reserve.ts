import { closeSync, existsSync, openSync, rmSync, writeSync } from 'node:fs';
import { type Log, messageOf } from './health.ts';

/** SQLite needs about 100 KiB to open a database with a write-ahead log. */
const SIZE = 512 * 1024;

/**
 * Keeps some space for a start on a full disk: without the catalogue no mount could be served. Synchronous: for
 * start-up. Where there is no space even for this, the cache works without.
 *
 * @returns bytes that are kept
 */
export function holdReserve(path: string, log: Log): number {
  if (existsSync(path)) return SIZE;
  try {
    const fd = openSync(path, 'wx', 0o600);
    try {
      for (let at = 0; at < SIZE; ) at += writeSync(fd, Buffer.alloc(SIZE - at), 0, SIZE - at, at);
    } finally {
      closeSync(fd);
    }
    return SIZE;
  } catch (error) {
    rmSync(path, { force: true });
    log('warn', 'no space for the reserve of the cache', { path, error: messageOf(error) });
    return 0;
  }
}

/** @returns true if there was something to give up */
export function releaseReserve(path: string): boolean {
  if (!existsSync(path)) return false;
  rmSync(path);
  return true;
}
