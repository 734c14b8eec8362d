import type { RegisteredFile } from './driver.ts';

/** What FUSE threads and the main thread say to each other. */

/** To a thread. Drained when it meets an inode it does not know, and every few hundred requests. */
export type ToThread =
  | { type: 'register'; ino: number; size: number; fd: number; ready: SharedArrayBuffer }
  | { type: 'unregister'; ino: number };

/** From a thread. `low`/`high` are the halves of the request's unique id, passed back as they came. */
export type FromThread =
  | { type: 'up' }
  /** A read that cannot be answered from the file as it is. */
  | { type: 'read'; low: number; high: number; ino: number; offset: number; length: number }
  /** Any other request, whole. */
  | { type: 'request'; bytes: Uint8Array<ArrayBuffer> }
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
}

export const STOP = 0;
export const epochOf = (thread: number) => 1 + thread;
export const hitsOf = (thread: number) => 2 * thread;
export const hitBytesOf = (thread: number) => 2 * thread + 1;

export function registerMessage(file: RegisteredFile): ToThread {
  return { type: 'register', ino: file.ino, size: file.size, fd: file.fd, ready: file.ready.words.buffer };
}
