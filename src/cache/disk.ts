import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';

/**
 * Every change that the cache makes to its directory goes through one of these. Tests put their own in its place, which
 * fails or stops at each step in turn.
 */
export interface Disk {
  /** Opens with mode 0600. */
  open(path: string, flags: string): Promise<FileHandle>;
  /** Writes all of `bytes` at `position`. */
  write(file: FileHandle, bytes: Uint8Array, position: number): Promise<void>;
  truncate(file: FileHandle, size: number): Promise<void>;
  /** fdatasync(2). */
  datasync(file: FileHandle): Promise<void>;
  /** Makes one directory with mode 0700. */
  mkdir(path: string): Promise<void>;
  rename(from: string, to: string): Promise<void>;
  /** Removes a file or a whole directory; what is absent is removed already. */
  remove(path: string): Promise<void>;
}

export const localDisk: Disk = {
  open: (path, flags) => open(path, flags, 0o600),
  write: async (file, bytes, position) => {
    let done = 0;
    while (done < bytes.length) {
      const { bytesWritten } = await file.write(bytes, done, bytes.length - done, position + done);
      done += bytesWritten;
    }
  },
  truncate: (file, size) => file.truncate(size),
  datasync: (file) => file.datasync(),
  mkdir: (path) => mkdir(path, { mode: 0o700 }).then(() => undefined),
  rename,
  remove: (path) => rm(path, { recursive: true, force: true }),
};

/**
 * Writes a whole file that {@link syncWhole} is to make durable: after a power cut before that it may hold anything, which
 * its reader must notice. What was written in part is left to the caller, who knows the directory.
 */
export function writeWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  return withFile(disk, path, 'w', (file) => disk.write(file, bytes, 0));
}

export function syncWhole(disk: Disk, path: string): Promise<void> {
  return withFile(disk, path, 'r+', (file) => disk.datasync(file));
}

/** Puts `bytes` in place of a file: after a crash there is the old file or the new one, whole. */
export async function replaceWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  await withFile(disk, temporary, 'w', async (file) => {
    await disk.write(file, bytes, 0);
    await disk.datasync(file);
  });
  await disk.rename(temporary, path);
}

/** Opens a file for as long as `act` takes. */
export async function withFile(
  disk: Disk,
  path: string,
  flags: string,
  act: (file: FileHandle) => Promise<void>,
): Promise<void> {
  const file = await disk.open(path, flags);
  try {
    await act(file);
  } finally {
    await file.close();
  }
}
