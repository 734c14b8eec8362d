import { fstatSync, readFileSync, statSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { type Disk, localDisk } from '../../src/cache/disk.ts';

export interface FaultyDisk extends Disk {
  /** Operations so far. */
  readonly steps: number;
  readonly failed: boolean;
}

function fault(code: string): NodeJS.ErrnoException {
  return Object.assign(new Error(`${code}: injected`), { code });
}

/**
 * A disk on which operation number `failAt` (from 1) fails with `code`; with `forever` all later ones too, as after a
 * `kill -9`: what was done stays, nothing more is done. A write that fails has written its first half.
 */
export function faultyDisk(failAt: number, code: string, forever: boolean): FaultyDisk {
  let steps = 0;
  const fails = () => (forever ? steps >= failAt : steps === failAt);
  const guard =
    <Args extends unknown[], Result>(act: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      steps++;
      if (fails()) throw fault(code);
      return act(...args);
    };
  return {
    get steps() {
      return steps;
    },
    get failed() {
      return steps >= failAt;
    },
    open: guard(localDisk.open),
    truncate: guard(localDisk.truncate),
    datasync: guard(localDisk.datasync),
    mkdir: guard(localDisk.mkdir),
    rename: guard(localDisk.rename),
    remove: guard(localDisk.remove),
    write: async (file, bytes, position) => {
      steps++;
      if (!fails()) return localDisk.write(file, bytes, position);
      // After a kill nothing is written at all; only the write under way is torn.
      if (steps === failAt) await localDisk.write(file, bytes.subarray(0, bytes.length >> 1), position);
      throw fault(code);
    },
  };
}

export interface DurableDisk extends Disk {
  /** What a power cut now would leave for sure of a file: its content at its last sync. */
  durable(path: string): Buffer | undefined;
}

/** A disk that remembers what was synced. @param before called before each operation */
export function durableDisk(before: (operation: string) => void): DurableDisk {
  const synced = new Map<number, Buffer>();
  const step =
    <Args extends unknown[], Result>(name: string, act: (...args: Args) => Promise<Result>) =>
    async (...args: Args): Promise<Result> => {
      before(name);
      return act(...args);
    };
  return {
    durable: (path) => synced.get(statSync(path).ino),
    open: step('open', localDisk.open),
    write: step('write', localDisk.write),
    truncate: step('truncate', localDisk.truncate),
    mkdir: step('mkdir', localDisk.mkdir),
    rename: step('rename', localDisk.rename),
    remove: step('remove', localDisk.remove),
    datasync: async (file: FileHandle) => {
      before('datasync');
      // Read first: what comes while the sync runs may miss it.
      const content = readFileSync(`/proc/self/fd/${file.fd}`);
      await localDisk.datasync(file);
      synced.set(fstatSync(file.fd).ino, content);
      before('datasync done');
    },
  };
}
