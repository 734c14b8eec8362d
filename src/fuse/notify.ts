import { writeSync } from 'node:fs';
import {
  InvalEntry,
  InvalInode,
  NOTIFY_INVAL_ENTRY,
  NOTIFY_INVAL_INODE,
  NOTIFY_PRUNE,
  OutHeader,
  Prune,
} from './wire.ts';

/** What we tell the kernel unasked. */

const PRUNE_AT_ONCE = 8192;

/**
 * Has the kernel drop a name, all below it that nobody uses, and mounts that somebody made there. It waits for look-ups in
 * that directory: only for threads that answer none, and for directories where there are next to none.
 */
export function dropName(fuseFd: number, parent: number, name: string): void {
  const text = Buffer.from(`${name}\0`);
  const message = Buffer.alloc(InvalEntry.NAME + text.length);
  putHeader(message, NOTIFY_INVAL_ENTRY);
  message.writeUIntLE(parent, InvalEntry.PARENT, 6);
  message.writeUInt32LE(text.length - 1, InvalEntry.NAMELEN);
  text.copy(message, InvalEntry.NAME);
  isThere(fuseFd, message);
}

/** True if the kernel has an inode in memory: one whose names were dropped is there for as long as something uses it. */
export function isRemembered(fuseFd: number, ino: number): boolean {
  const message = Buffer.alloc(InvalInode.SIZE);
  putHeader(message, NOTIFY_INVAL_INODE);
  message.writeUIntLE(ino, InvalInode.INO, 6);
  message.writeBigInt64LE(-1n, InvalInode.OFFSET);
  return isThere(fuseFd, message);
}

/** Has the kernel drop the pages of an inode: what is read of it next, also through a map, is asked for again. It waits for reads under way. */
export function dropPages(fuseFd: number, ino: number): void {
  const message = Buffer.alloc(InvalInode.SIZE);
  putHeader(message, NOTIFY_INVAL_INODE);
  message.writeUIntLE(ino, InvalInode.INO, 6);
  isThere(fuseFd, message);
}

/**
 * Has the kernel drop the names of inodes where nothing uses them; those in a directory have to come before it.
 * @returns false where the kernel cannot (Linux before 6.18)
 */
export function prune(fuseFd: number, inos: readonly number[]): boolean {
  for (let at = 0; at < inos.length; at += PRUNE_AT_ONCE) {
    const some = inos.slice(at, at + PRUNE_AT_ONCE);
    const message = Buffer.alloc(Prune.INODES + 8 * some.length);
    putHeader(message, NOTIFY_PRUNE);
    message.writeUInt32LE(some.length, Prune.COUNT);
    for (const [i, ino] of some.entries()) message.writeUIntLE(ino, Prune.INODES + 8 * i, 6);
    try {
      writeSync(fuseFd, message);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'EINVAL') return false;
      if (code === 'ENODEV') return true;
      throw error;
    }
  }
  return true;
}

function putHeader(message: Buffer, code: number): void {
  message.writeUInt32LE(message.length, OutHeader.LEN);
  message.writeInt32LE(code, OutHeader.ERROR);
}

function isThere(fuseFd: number, message: Buffer): boolean {
  try {
    writeSync(fuseFd, message);
    return true;
  } catch (error) {
    // ENOENT: the kernel does not know it. ENODEV: nor anything else, for the mount is gone.
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENODEV') return false;
    throw error;
  }
}
