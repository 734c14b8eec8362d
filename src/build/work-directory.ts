import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';

/** A directory for what is needed only while an image is made. */
export interface WorkDirectory {
  path: string;
  remove(): Promise<void>;
}

/** @param parent made if it is not there; with room for unpacked content */
export async function workDirectory(parent: string): Promise<WorkDirectory> {
  try {
    await mkdir(parent, { recursive: true });
    const path = await mkdtemp(join(parent, '.nymph-'));
    return { path, remove: () => rm(path, { recursive: true, force: true }) };
  } catch (error) {
    throw new NymphError('source', `cannot write in ${parent}: ${(error as NodeJS.ErrnoException).code}`, {
      cause: error,
    });
  }
}
