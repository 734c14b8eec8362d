import { join } from 'node:path';
import type { Scratch } from './cache.ts';
import type { Place } from './entry.ts';
import { cacheError } from './health.ts';

let made = 0;

/** Makes a file in the cache's directory for what is being made, which is emptied at the next start. */
export async function createScratch({ disk, layout, health }: Place): Promise<Scratch> {
  const path = join(layout.temporary, `scratch-${made++}`);
  try {
    const file = await disk.open(path, 'wx+');
    return {
      path,
      fd: file.fd,
      async discard() {
        await file.close();
        await disk.remove(path).catch(() => {}); // what stays is removed at the next start
      },
    };
  } catch (error) {
    health.failed('a file for what is unpacked', error);
    throw cacheError('cannot make a file for what is unpacked', error);
  }
}
