import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { digestEquals, digestOf } from '../codec/digest.ts';
import { corrupt } from '../errors.ts';
import { MAX_DICTIONARY } from '../image/image.ts';
import type { Disk } from './disk.ts';
import type { Ledger } from './ledger.ts';

/**
 * The `dictionaries` file of an entry whose frames begin in the midst of a gzip stream: what the stream had decoded to
 * before each of them, side by side. A file, because a layer of 1 GB has some 1,000, 32 MB: whoever inflates a frame
 * reads the one that it needs.
 */
const NAME = 'dictionaries';

/** Makes the file, synced; undefined for an entry that needs none. */
export async function makeDictionaries(disk: Disk, directory: string, ledger: Ledger): Promise<FileHandle | undefined> {
  if (ledger.frames.contexts === undefined) return undefined;
  const file = await disk.open(join(directory, NAME), 'wx+');
  try {
    await growDictionaries(disk, file, ledger);
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}

/** Adds what the file does not hold yet, synced. What an earlier attempt left behind its end is written over. */
export async function growDictionaries(disk: Disk, file: FileHandle, ledger: Ledger): Promise<void> {
  const { dictionaries, dictionarySize } = ledger;
  if (dictionaries === undefined || dictionaries.length === 0) return;
  await disk.write(file, dictionaries, dictionarySize - dictionaries.length);
  await disk.datasync(file);
}

/**
 * Opens the file and compares every dictionary with its digest, one after another: some 30 ms for a layer of 1 GB.
 * @throws NymphError `corrupt`
 */
export async function openDictionaries(disk: Disk, directory: string, ledger: Ledger): Promise<FileHandle | undefined> {
  const { contexts, count } = ledger.frames;
  if (contexts === undefined) return undefined;
  const file = await disk.open(join(directory, NAME), 'r+');
  try {
    const buffer = Buffer.allocUnsafe(MAX_DICTIONARY);
    for (let i = 0; i < count; i++) {
      const size = contexts.dictionarySize[i];
      if (size === 0) continue;
      const { bytesRead } = await file.read(buffer, 0, size, contexts.dictionaryOffset[i]);
      if (
        bytesRead !== size ||
        !digestEquals(contexts.dictionaryDigest, i, digestOf('blake3', buffer.subarray(0, size)))
      )
        throw corrupt('cached dictionaries', 'digest', contexts.dictionaryOffset[i], 'the file was damaged');
    }
    return file;
  } catch (error) {
    await file.close();
    throw error;
  }
}
