import type { ReadyMap } from '../cache/ready-map.ts';

/**
 * The contract between a FUSE driver (how requests come and go) and a file system (what they mean).
 *
 * A driver answers reads of *registered* files itself, without leaving its thread, as long as the readiness map says
 * that the bytes are here. Everything else goes to the FileSystem, which may take as long as the network does.
 */

/** Attributes of one inode. Times in seconds. */
export interface Attributes {
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  rdev: number;
  size: number;
  mtime: number;
  mtimeNs: number;
}

export interface DirectoryEntry {
  name: Uint8Array;
  ino: number;
  /** File type bits of `mode`, as in `S_IFMT`. */
  type: number;
}

/** A read-only file system. `ino` 1 is the root. Methods that find nothing return undefined: the driver says ENOENT. */
export interface FileSystem {
  lookup(parent: number, name: Uint8Array): Attributes | undefined;
  getattr(ino: number): Attributes | undefined;
  /** All entries but `.` and `..`, in a stable order. */
  readdir(ino: number): readonly DirectoryEntry[] | undefined;
  /** Target of a symlink. */
  readlink?(ino: number): Uint8Array | undefined;
  /** Extended attribute names (NUL-terminated list), and one value. */
  listxattr?(ino: number): Uint8Array | undefined;
  getxattr?(ino: number, name: Uint8Array): Uint8Array | undefined;
  /**
   * Bytes `[offset, offset + length)` of a file, of which some are not here yet. Buffers together hold what is
   * delivered, shorter only at the end of the file. Rejects with a NymphError: the reader gets EIO (EINTR when
   * `signal` was aborted because the reader was interrupted).
   */
  read(ino: number, offset: number, length: number, signal: AbortSignal): Promise<Uint8Array[]>;
  /** A reader has come to a mark in the readiness map: time to fetch further ahead. */
  reached(ino: number, offset: number): void;
}

/** A file that the driver may serve by itself. */
export interface RegisteredFile {
  ino: number;
  size: number;
  /** Descriptor of the local sparse file; stays open until `unregister` resolves. */
  fd: number;
  ready: ReadyMap;
}

export interface DriverStatistics {
  /** Requests by operation name. */
  requests: Record<string, number>;
  /** Reads answered without leaving the driver's thread, and their bytes. */
  hits: number;
  hitBytes: number;
  /** Reads that had to wait, and those waiting now. */
  faults: number;
  waiting: number;
}

export interface Driver {
  readonly name: 'kernel' | 'fuse-native';
  /** Begins to answer requests. Rejects if the kernel does not speak our protocol. */
  start(fileSystem: FileSystem): Promise<void>;
  register(file: RegisteredFile): void;
  /** Resolves when no thread can touch the descriptor any more: it may be closed then. */
  unregister(ino: number): Promise<void>;
  statistics(): DriverStatistics;
  /** Stops answering; requests in flight stay with the kernel. */
  stop(): Promise<void>;
}
