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

/** Writes a whole file, synced. What was written in part is left to the caller, who knows the directory. */
export async function writeWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const file = await disk.open(path, 'w');
  try {
    await disk.write(file, bytes, 0);
    await disk.datasync(file);
  } finally {
    await file.close();
  }
}

/** Puts `bytes` in place of a file: after a crash there is the old file or the new one, whole. */
export async function replaceWhole(disk: Disk, path: string, bytes: Uint8Array): Promise<void> {
  const temporary = `${path}.new`;
  await writeWhole(disk, temporary, bytes);
  await disk.rename(temporary, path);
}
