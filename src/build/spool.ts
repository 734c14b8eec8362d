import { type FileHandle, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';

/** A place on disk for content that comes as a stream and is needed in another order. Holes stay holes. */
export interface Spool {
  /** Room for `size` bytes, zeros until they are written. */
  reserve(size: number): { kind: 'range'; fd: number; offset: number };
  /** Bytes must come in ascending order. They may be used again once this has resolved. */
  write(bytes: Uint8Array, offset: number): Promise<void>;
  /** Everything that was written can be read from now on. */
  finish(): Promise<void>;
  /** Gives the room back. */
  close(): Promise<void>;
}

const BUFFER = 1 << 20;
let serial = 0;

/** @param directory where the file is, without a name once it is open */
export async function createSpool(directory: string): Promise<Spool> {
  const path = join(directory, `.spool-${process.pid}-${++serial}.tmp`);
  let file: FileHandle;
  try {
    file = await open(path, 'wx+');
    await rm(path);
  } catch (error) {
    throw new NymphError('source', `cannot write in ${directory}: ${(error as NodeJS.ErrnoException).code}`, {
      hint: 'Set TMPDIR to a directory with room for the unpacked content.',
      cause: error,
    });
  }
  const buffer = Buffer.allocUnsafeSlow(BUFFER);
  let bufferAt = 0;
  let used = 0;
  let end = 0;

  async function put(bytes: Uint8Array, offset: number): Promise<void> {
    try {
      for (let done = 0; done < bytes.length; )
        done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
    } catch (error) {
      throw new NymphError('source', `cannot write in ${directory}: ${(error as NodeJS.ErrnoException).code}`, {
        hint: 'Set TMPDIR to a directory with room for the unpacked content.',
        cause: error,
      });
    }
  }

  async function flush(): Promise<void> {
    if (used > 0) await put(buffer.subarray(0, used), bufferAt);
    used = 0;
  }

  return {
    reserve(size) {
      const offset = end;
      end += size;
      return { kind: 'range', fd: file.fd, offset };
    },
    async write(bytes, offset) {
      if (offset !== bufferAt + used || used + bytes.length > BUFFER) await flush();
      if (used === 0) bufferAt = offset;
      if (bytes.length > BUFFER) return put(bytes, offset);
      buffer.set(bytes, used);
      used += bytes.length;
    },
    async finish() {
      await flush();
      await file.truncate(end);
    },
    close: () => file.close(),
  };
}
