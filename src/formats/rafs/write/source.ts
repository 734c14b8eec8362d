/** What an image is built from: names, inodes, and where their content is. */
import type { WrittenChunk } from './chunk-info.ts';

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
  /** Regular files: size in bytes, default 0, and where the content is; an empty file needs none. */
  size?: number;
  content?: Content;
  /** Symlinks. */
  target?: Buffer | string;
  /** Character and block devices. */
  device?: { major: number; minor: number };
  /** Path of another entry: this one is a further name (hard link) of it. */
  linkTo?: Buffer | string;
}

/** Where the content of a file is: any thread can read it from there. */
export type Content =
  | { kind: 'bytes'; bytes: Uint8Array }
  /** A file on this machine, from its start. */
  | { kind: 'file'; path: Buffer }
  /** A range of a file that is open, and stays so while the image is built. */
  | { kind: 'range'; fd: number; offset: number }
  /** Chunks that a blob has already, all of the chunk size but the last. */
  | { kind: 'chunks'; chunks: readonly WrittenChunk[] };

/** Content that is in memory. */
export function contentOf(bytes: Uint8Array): Pick<SourceEntry, 'size' | 'content'> {
  return { size: bytes.length, content: { kind: 'bytes', bytes } };
}
