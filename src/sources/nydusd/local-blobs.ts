import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { digestHex } from '../digest.ts';
import { openFileSource } from '../file-source.ts';
import type { LocalBackend } from './backend.ts';
import type { OpenBlob } from './blobs.ts';

/** Blobs as files: one file for all, or by id in the first directory that has one that is not empty, as nydusd looks. */
export function openLocalBlobs({ file, directories }: LocalBackend): OpenBlob {
  return (digest, size) => {
    const id = digestHex(digest);
    const what = `blob ${digest}`;
    const paths = file === undefined ? directories.map((directory) => join(directory, id)) : [file];
    return {
      name: 'localfs',
      ...(size === undefined ? {} : { size }),
      async read(offset, length, signal) {
        const path = (await firstFilled(paths)) ?? paths[0];
        return openFileSource('localfs', path, `${what} in ${path}`, size).read(offset, length, signal);
      },
    };
  };
}

async function firstFilled(paths: readonly string[]): Promise<string | undefined> {
  if (paths.length === 1) return paths[0];
  for (const path of paths) {
    // One that may not be looked at is passed over; the read of the last resort says why.
    const found = await stat(path).catch(() => undefined);
    if (found !== undefined && found.size > 0) return path;
  }
  return undefined;
}
