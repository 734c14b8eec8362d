import type { Extent, RegisteredFile, RegisteredTree } from './driver.ts';

/** What FUSE threads and the main thread say to each other. */

/** To a thread. Drained when it meets an inode it does not know, and every few hundred requests. */
export type ToThread =
  | { type: 'register'; ino: number; size: number; fd: number; ready: SharedArrayBuffer }
  | { type: 'unregister'; ino: number }
  | { type: 'tree'; tree: TreeData }
  | { type: 'fell'; first: number };

/** A RegisteredTree as it travels. */
export interface TreeData extends Omit<RegisteredTree, 'present'> {
  present: SharedArrayBuffer;
}

/** From a thread. `low`/`high` are the halves of the request's unique id, passed back as they came. */
export type FromThread =
  | { type: 'up' }
  /** A read that cannot be answered from the files as they are. */
  | { type: 'read'; low: number; high: number; extents: Extent[] }
  /** A file of a tree of files as they stand is opened. `blob`: the registered file with its content, 0 if it is none. */
  | { type: 'open'; low: number; high: number; ino: number; blob: number; size: number }
  /** Any other request, whole. */
  | { type: 'request'; bytes: Uint8Array<ArrayBuffer> }
  /** A request about a tree's names or places failed, and was answered with EIO. */
  | { type: 'failed'; op: number; ino: number; error: string }
  /** A mark was taken. */
  | { type: 'reached'; ino: number; offset: number }
  /** The connection is gone (unmounted), or the device failed. */
  | { type: 'end'; error?: string };

export interface ThreadData {
  fuseFd: number;
  /** Index of this thread in the shared words. */
  index: number;
  /** 32-bit words: [0] stop flag, then an epoch for each thread: odd while it handles a request. */
  control: SharedArrayBuffer;
  /** 64-bit floats, two for each thread, written by it alone: reads answered, and their bytes. */
  counters: SharedArrayBuffer;
  /** The kernel may read complete files in our place, as far as it is told when they are opened. */
  passthrough: boolean;
}

export const STOP = 0;
export const epochOf = (thread: number) => 1 + thread;
export const hitsOf = (thread: number) => 2 * thread;
export const hitBytesOf = (thread: number) => 2 * thread + 1;

export function registerMessage(file: RegisteredFile): ToThread {
  return { type: 'register', ino: file.ino, size: file.size, fd: file.fd, ready: file.ready.words.buffer };
}

export function treeMessage(tree: RegisteredTree): ToThread {
  return { type: 'tree', tree: { ...tree, present: tree.present.words.buffer } };
}
