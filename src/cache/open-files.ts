import type { OpenFiles, StoredOpenFile } from './cache.ts';
import type { Health } from './health.ts';

/**
 * What files are open, on a disk that may be full: an open or a close must not fail for that. What the disk does not take is
 * written with the next change that it takes; a daemon that starts before then knows less.
 */
export function patientOpenFiles(files: OpenFiles, health: Pick<Health, 'failed'>): OpenFiles {
  /** By handle: what to put, or undefined for what to remove. */
  const owed = new Map<number, StoredOpenFile | undefined>();

  function settle(): void {
    try {
      for (const [handle, file] of owed) {
        if (file === undefined) files.remove(handle);
        else files.put(file);
        owed.delete(handle);
      }
    } catch (error) {
      health.failed('the list of open files', error);
    }
  }

  return {
    list: files.list,
    put(file) {
      owed.set(file.handle, file);
      settle();
    },
    remove(handle) {
      owed.set(handle, undefined);
      settle();
    },
  };
}
