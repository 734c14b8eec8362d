import type { ReadyMap } from '../cache/ready-map.ts';

/**
 * The contract between a FUSE driver (how requests come and go) and a file system (what they mean).
 *
 * A driver answers by itself, without leaving its thread: everything about the names of a *registered tree*, and reads
 * of registered files, alone or as parts of a tree's files, as long as the readiness map says that the bytes are here.
 * Everything else goes to the FileSystem, which may take as long as the network does.
 */

/** Attributes of one inode. Times in seconds. */
export interface Attributes {
  ino: number;
  mode: number;
  nlink: number;
  uid: number;
  gid: number;
  /** As the kernel encodes it (new_encode_dev). */
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
  /** Where the directory is read on behind this entry; above 0, ascending. */
  next: number;
}

/** What a directory's name is that does not exist: `never` may be remembered, `undefined` may come to be. */
export type Found = Attributes | 'never' | undefined;

/** The names of a read-only file system. Methods that find nothing return undefined: the driver says ENOENT. */
export interface Names {
  lookup(parent: number, name: Uint8Array): Found;
  getattr(ino: number): Attributes | undefined;
  /** Visits entries from `from` on (0: all of them), until `visit` returns false. False if there is no such directory. */
  readdir(ino: number, from: number, visit: (entry: DirectoryEntry) => boolean): boolean;
  /** Target of a symlink. */
  readlink?(ino: number): Uint8Array | undefined;
  /** Extended attribute names (NUL-terminated list), and one value. */
  listxattr?(ino: number): Uint8Array | undefined;
  getxattr?(ino: number, name: Uint8Array): Uint8Array | undefined;
}

/** In place of an inode number: a range of zeros. */
export const ZEROS = 0;

/** A range of a registered file, bytes. */
export interface Extent {
  /** Or {@link ZEROS}. */
  ino: number;
  offset: number;
  length: number;
}

/** A read-only file system. `ino` 1 is the root. */
export interface FileSystem extends Names {
  /**
   * The bytes of extents, one after another, of which some are not here yet. Buffers together hold what is delivered,
   * shorter only at the end of the last file. Rejects with a NymphError: the reader gets EIO (EINTR when `signal` was
   * aborted because the reader was interrupted).
   */
  read(extents: readonly Extent[], signal: AbortSignal): Promise<Uint8Array[]>;
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
  /** True if all of it is here and right, for good: the kernel may read the local file in our place. Absent: never. */
  isFinal?(): boolean;
}

/** A checked bootstrap whose tree the driver serves by itself, as directory `<first>` of {@link TREES}. */
export interface RegisteredTree {
  /** Inode `nid` of the bootstrap is inode `first + nid` here: a multiple of {@link TREE_GRAIN}. */
  first: number;
  /** Descriptor of the bootstrap; stays open until `unregisterTree` resolves. */
  fd: number;
  /** Content of the bootstrap as far as `present` says: it is read in when it is first needed. */
  bytes: SharedArrayBuffer;
  present: ReadyMap;
  /** Inode numbers of the registered files that hold its data, in the order of the device table. */
  blobs: readonly number[];
  /** Its files stand in their blobs as they are: a model's. */
  isOfFiles: boolean;
}

/** Inode number of the directory that holds the trees. */
export const TREES = 3;
/** Trees begin at multiples of this inode number: enough for a bootstrap of 32 MiB; larger ones take several. */
export const TREE_GRAIN = 2 ** 20;

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
  registerTree(tree: RegisteredTree): void;
  /** As `unregister`. */
  unregisterTree(first: number): Promise<void>;
  statistics(): DriverStatistics;
  /** Stops answering; requests in flight stay with the kernel. */
  stop(): Promise<void>;
}
