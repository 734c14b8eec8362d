import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Standing } from './cache.ts';
import { type Disk, replaceWhole } from './disk.ts';
import { countClears, type ReadyMap } from './ready-map.ts';

/** What the `standing` file of an entry keeps, where chunks have no digests: whether the whole was found right or wrong. */
export interface StandingFile {
  /** `right` only as long as nothing was cleared since: what is fetched anew then was not part of the check. */
  current(): Standing;
  /** Counts at once. @param synced is waited for before it is on disk; what was cleared until then is not right there */
  set(standing: Standing, synced?: Promise<void>): Promise<void>;
  /** Bits were cleared. */
  cleared(): Promise<void>;
}

const NAME = 'standing';

export async function openStanding(disk: Disk, directory: string, map: ReadyMap): Promise<StandingFile> {
  let standing = await read(directory);
  let clears = countClears(map);
  let writing: Promise<unknown> = Promise.resolve();

  function current(): Standing {
    return standing === 'right' && countClears(map) !== clears ? 'pending' : standing;
  }

  async function set(next: Standing, synced?: Promise<void>): Promise<void> {
    standing = next;
    clears = countClears(map);
    // It may fail while others are waited for.
    synced?.catch(() => {});
    const before = writing;
    const written = (async () => {
      await Promise.allSettled([before]);
      await synced;
      if (current() === next) await replaceWhole(disk, join(directory, NAME), Buffer.from(next));
    })();
    writing = written;
    await written;
  }

  return {
    current,
    set,
    async cleared() {
      if (standing === 'right' && current() === 'pending') await set('pending');
    },
  };
}

/** What is absent or damaged says nothing. */
async function read(directory: string): Promise<Standing> {
  const text = await readFile(join(directory, NAME), 'latin1').catch(() => '');
  return text === 'right' || text === 'wrong' ? text : 'pending';
}
