import { createHash, type Hash } from 'node:crypto';
import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../../../errors.ts';

/** The object of a blob while it is written: in order, hashed on the way. */
export interface BlobFile {
  /** Bytes written so far. */
  readonly size: number;
  /** Appends. */
  append(bytes: Uint8Array): Promise<void>;
  /** SHA-256 of all bytes so far. */
  digest(): Buffer;
  /** Gives the file its name, the hex digest. @returns the name */
  finish(): Promise<string>;
  /** Removes an unfinished file. */
  abandon(): Promise<void>;
}

let serial = 0;

/** @param directory where the blob will be, under its digest; exists */
export async function createBlobFile(directory: string): Promise<BlobFile> {
  const path = join(directory, `.blob-${process.pid}-${++serial}.tmp`);
  const hash: Hash = createHash('sha256');
  let file: FileHandle | undefined;
  try {
    file = await open(path, 'wx');
  } catch (error) {
    throw new NymphError('source', `cannot write blobs in ${directory}: ${(error as Error).message}`, { cause: error });
  }
  let size = 0;
  async function close(): Promise<void> {
    const open = file;
    file = undefined;
    await open?.close();
  }

  return {
    get size() {
      return size;
    },
    async append(bytes) {
      hash.update(bytes);
      size += bytes.length;
      for (let done = 0; done < bytes.length; ) done += (await file!.write(bytes, done)).bytesWritten;
    },
    digest: () => hash.copy().digest(),
    async finish() {
      await close();
      const id = hash.digest('hex');
      await rename(path, join(directory, id));
      return id;
    },
    async abandon() {
      await close();
      await rm(path, { force: true });
    },
  };
}
