import { closeBacking, openBacking } from './backing.ts';
import type { RegisteredFile } from './driver.ts';
import { Open, OpenOut } from './wire.ts';

/**
 * Who has files of models open, and how. A file that is complete and checked is opened in passthrough: the kernel reads
 * the cache's file by itself, at the speed of the local file system and with its page cache. All others are read through us.
 *
 * While an inode is open one way, the kernel takes no other: it answers such an open with EIO (fs/fuse/iomode.c). So what
 * is open must be known, also by the daemon that comes after this one.
 */
export interface Opens {
  /**
   * Answers an OPEN of inode `ino`. One that the kernel repeats, because its first answer was lost with a daemon, means the
   * same handle.
   * @param handle number of the request: the kernel gives none twice on one connection
   * @param file the registered file that is the inode's content, byte for byte; undefined if there is none
   */
  open(handle: number, ino: number, file: RegisteredFile | undefined): Uint8Array;
  /** RELEASE; a handle of another daemon is fine, and so is one that is released twice. */
  release(handle: number): void;
  /** Of inodes `[first, end)` nothing is open any more. */
  forget(first: number, end: number): void;
}

/** One open file: `backing` is the kernel's number of the file that it reads, 0 for one that is read through us. */
export interface OpenFile {
  readonly handle: number;
  readonly ino: number;
  readonly backing: number;
}

/** Keeps what is open for the next daemon. */
export interface OpenFileStore {
  list(): OpenFile[];
  put(file: OpenFile): void;
  remove(handle: number): void;
}

/** @param store of what an earlier daemon has answered on this connection */
export function createOpens(fuseFd: number, store: OpenFileStore): Opens {
  const files = new Map<number, OpenFile>();
  const handlesOf = new Map<number, Set<number>>();
  for (const file of store.list()) keep(file);

  function keep(file: OpenFile): void {
    files.set(file.handle, file);
    const handles = handlesOf.get(file.ino) ?? new Set();
    handlesOf.set(file.ino, handles.add(file.handle));
  }

  /** As it is open already; else as the file allows. */
  function backingOf(ino: number, file: RegisteredFile | undefined): number {
    const [known] = handlesOf.get(ino) ?? [];
    if (known !== undefined) return files.get(known)!.backing;
    return file?.isFinal?.() ? (openBacking(fuseFd, file.fd) ?? 0) : 0;
  }

  function release(handle: number): void {
    const file = files.get(handle);
    if (file === undefined) return;
    files.delete(handle);
    const handles = handlesOf.get(file.ino)!;
    handles.delete(handle);
    if (handles.size === 0) {
      handlesOf.delete(file.ino);
      if (file.backing !== 0) closeBacking(fuseFd, file.backing);
    }
    store.remove(handle);
  }

  return {
    open(handle, ino, file) {
      const known = files.get(handle);
      if (known !== undefined && known.ino === ino) return openAnswer(handle, known.backing);
      const opened: OpenFile = { handle, ino, backing: backingOf(ino, file) };
      keep(opened);
      // Before the answer: who comes after us must not think less open than is.
      store.put(opened);
      return openAnswer(handle, opened.backing);
    },
    release,
    forget(first, end) {
      for (const { handle, ino } of [...files.values()]) if (ino >= first && ino < end) release(handle);
    },
  };
}

/** An answer to OPEN. @param handle comes back with RELEASE */
export function openAnswer(handle: number, backing: number): Uint8Array {
  const out = Buffer.alloc(OpenOut.SIZE);
  out.writeUIntLE(handle, OpenOut.HANDLE, 6);
  out.writeUInt32LE(backing === 0 ? Open.KEEP_CACHE : Open.PASSTHROUGH, OpenOut.FLAGS);
  out.writeInt32LE(backing, OpenOut.BACKING);
  return out;
}
