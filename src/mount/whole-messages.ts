import type { PieceChecksum } from '../image/files.ts';
import type { WholeDigest } from '../image/image.ts';

/** What the thread that checks whole files and the main thread say to each other. Files are named by inode number. */
export type ToWholeThread =
  | {
      type: 'follow';
      ino: number;
      fd: number;
      size: number;
      ready: SharedArrayBuffer;
      algorithm: WholeDigest['algorithm'];
      pieces?: readonly PieceChecksum[];
    }
  /** More of the file is here, maybe. */
  | { type: 'look'; ino: number }
  | { type: 'leave'; ino: number };

export type FromWholeThread =
  /** All of the file is hashed. `clears` as it was when that began: another number now means that other bytes are there. */
  | { type: 'hashed'; ino: number; hex: string; clears: number }
  /** A piece does not have its checksum: it may be fetched `again`, or came wrong for the second time. */
  | { type: 'piece'; ino: number; offset: number; size: number; again: boolean }
  /** The disk refuses to read the file. */
  | { type: 'failed'; ino: number; error: string }
  /** The descriptor is not touched any more. */
  | { type: 'left'; ino: number };
