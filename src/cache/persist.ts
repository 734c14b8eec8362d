import type { FileHandle } from 'node:fs/promises';
import { BLOCK_SIZE } from '../image/image.ts';
import { hasBit, subtract } from './bits.ts';
import { type Disk, withFile } from './disk.ts';
import type { Health } from './health.ts';
import { type ReadyFile, writeCurrent, writeSynced } from './ready-file.ts';
import { clearReady, countClears, type ReadyMap, readyBytes } from './ready-map.ts';

/** A change waits this long for others, ms. */
const PERSIST_DELAY = 75;
/** Unsynced data, and what could not be written, wait this long, ms. */
const SYNC_DELAY = 5000;

/** Keeps the `ready` file of one open entry in step with its map. */
export interface Persister {
  /** Bits changed: they are written soon, and synced within seconds. Never throws. */
  changed(): void;
  /**
   * Syncs the data and the bits now if there is anything to sync, and stops all timers.
   * @returns false if that failed (reported to `health`): bits that were not synced are lost, no more
   */
  finish(): Promise<boolean>;
}

interface PersisterParts {
  disk: Disk;
  health: Health;
  key: string;
  map: ReadyMap;
  data: FileHandle;
  ready: ReadyFile;
  /** Called before the data is synced: what the bits need besides is made durable. */
  settle(): Promise<void>;
  /** The file of the bits. It is open only while it is written: most entries that are open do not change. */
  readyPath: string;
  /** Called when bits were cleared, before that is written. */
  cleared(): Promise<void>;
  /** Called after each write to the file of the bits: the moment to count bytes. */
  written(file: FileHandle): Promise<void>;
}

export function createPersister(parts: PersisterParts): Persister {
  const { disk, health, map, data, ready } = parts;
  let clears = countClears(map);
  let persistTimer: NodeJS.Timeout | undefined;
  let syncTimer: NodeJS.Timeout | undefined;
  let queue = Promise.resolve(true);
  let finished = false;
  const withReady = (step: (file: FileHandle) => Promise<void>) => withFile(disk, parts.readyPath, 'r+', step);

  async function persist(file: FileHandle): Promise<void> {
    const seen = countClears(map);
    const bits = readyBytes(map);
    if (seen !== clears) {
      await parts.cleared();
      // A block that was cleared and set again has new data, which no sync has covered: nothing counts as synced.
      await writeSynced(disk, file, ready, new Uint8Array(bits.length));
      await writeCurrent(disk, file, ready, bits);
      await disk.datasync(file);
      clears = seen;
    } else {
      await writeCurrent(disk, file, ready, bits);
    }
    await parts.written(file);
  }

  async function sync(file: FileHandle): Promise<void> {
    await parts.settle();
    // A change from here on says otherwise.
    ready.settled = true;
    const seen = countClears(map);
    // The bits first: data of bits that come later may miss this sync.
    const bits = readyBytes(map);
    try {
      await disk.datasync(data);
    } catch (error) {
      // The kernel may have dropped the pages it could not write: what was never synced is not here any more.
      forget(map, subtract(readyBytes(map), ready.synced));
      await persist(file);
      throw error;
    }
    await persist(file);
    if (countClears(map) !== seen) {
      ready.settled = false;
      return later();
    }
    await writeSynced(disk, file, ready, bits);
    await disk.datasync(file);
  }

  function run(step: () => Promise<void>): Promise<boolean> {
    queue = queue.then(step).then(
      () => true,
      (error: unknown) => {
        ready.settled = false;
        health.failed(`readiness of ${parts.key}`, error);
        later();
        return false;
      },
    );
    return queue;
  }

  /** True if a sync would find nothing to do. Bits are compared too: a change may not have been told yet. */
  function isSettled(): boolean {
    return ready.settled && countClears(map) === clears && Buffer.compare(readyBytes(map), ready.current) === 0;
  }

  function later(): void {
    if (finished) return;
    syncTimer ??= setTimeout(() => {
      syncTimer = undefined;
      void run(() => withReady(sync));
    }, SYNC_DELAY).unref();
  }

  return {
    changed() {
      if (finished) return;
      ready.settled = false;
      // Bytes found wrong must not come back with the next process.
      const delay = countClears(map) === clears ? PERSIST_DELAY : 0;
      persistTimer ??= setTimeout(() => {
        persistTimer = undefined;
        void run(() => withReady(persist));
      }, delay).unref();
      later();
    },
    async finish() {
      finished = true;
      clearTimeout(persistTimer);
      clearTimeout(syncTimer);
      return run(async () => {
        if (!isSettled()) await withReady(sync);
      });
    },
  };
}

function forget(map: ReadyMap, bits: Uint8Array): void {
  for (let block = 0; block < map.blocks; block++) {
    if (hasBit(bits, block)) clearReady(map, block * BLOCK_SIZE, BLOCK_SIZE);
  }
}
