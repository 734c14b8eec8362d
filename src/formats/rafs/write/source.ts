/** What an image is built from: names, inodes and a way to their content. */

export interface SourceEntry {
  /** From the root of the tree on; a leading `/` changes nothing. Empty or `/` is the root itself. */
  path: Buffer | string;
  /** Type and permission bits, as in stat(2). For a further name of an inode (`linkTo`) only the type is used. */
  mode: number;
  uid?: number;
  gid?: number;
  /** Seconds since 1970, may be negative, and nanoseconds. Default 0. */
  mtime?: number;
  mtimeNs?: number;
  xattrs?: readonly { name: Buffer | string; value: Uint8Array }[];
  /** Regular files: size in bytes, default 0, and the content; an empty file needs none. */
  size?: number;
  open?: () => Promise<Content>;
  /** Symlinks. */
  target?: Buffer | string;
  /** Character and block devices. */
  device?: { major: number; minor: number };
  /** Path of another entry: this one is a further name (hard link) of it. */
  linkTo?: Buffer | string;
}

/** An open file. */
export interface Content {
  /** @returns exactly `length` bytes from `offset` on */
  read(offset: number, length: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Content that is in memory. */
export function contentOf(bytes: Uint8Array): Pick<SourceEntry, 'size' | 'open'> {
  return {
    size: bytes.length,
    open: async () => ({
      read: async (offset, length) => bytes.subarray(offset, offset + length),
      close: async () => {},
    }),
  };
}
