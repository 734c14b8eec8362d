import { constants } from 'node:os';
import type { Extent } from './driver.ts';
import type { NativeFuse, NativeStat, Operations } from './native-module.ts';
import type { Tree } from './tree.ts';

/**
 * What libfuse asks of one tree, by path. Its bootstrap is in memory as a whole: nothing here waits but reads of data.
 *
 * fuse-native cannot tell everything: names and targets must be UTF-8 (others are left out, or EILSEQ), times are whole
 * milliseconds from 1970 on.
 */
const { ENOENT, EINVAL, EIO, EILSEQ, EROFS, ENODATA, ERANGE } = constants.errno;
const O_ACCMODE = 3;
/** Directories whose paths are remembered. */
const MOST_PATHS = 4096;

/** Fills `buffer` with the bytes of extents. @returns the number of bytes, or a negative errno */
export type ReadExtents = (extents: readonly Extent[], buffer: Buffer) => Promise<number>;

export interface NativeTree {
  operations: Operations;
  /** Replaces what the package does without regard to sizes. */
  amend(fuse: NativeFuse): void;
}

export function nativeTree(
  tree: Tree,
  read: ReadExtents,
  failed: (what: string, path: string, error: unknown) => void,
): NativeTree {
  const directories = new Map<string, number>();

  /** The inode of a path, or undefined. */
  function resolve(path: string): number | undefined {
    const known = directories.get(path);
    if (known !== undefined) return known;
    if (path === '/') return tree.root().ino;
    const slash = path.lastIndexOf('/');
    const parent = resolve(slash === 0 ? '/' : path.slice(0, slash));
    const found = parent === undefined ? undefined : tree.lookup(parent, Buffer.from(path.slice(slash + 1)));
    if (typeof found !== 'object') return undefined;
    if ((found.mode & 0o170000) === 0o040000) {
      if (directories.size >= MOST_PATHS) directories.clear();
      directories.set(path, found.ino);
    }
    return found.ino;
  }

  /** Answers with what `work` finds, or with an errno. */
  function answer(what: string, path: string, done: (error: number) => void, work: (ino: number) => void): void {
    try {
      const ino = resolve(path);
      if (ino === undefined) done(-ENOENT);
      else work(ino);
    } catch (error) {
      failed(what, path, error);
      done(-EIO);
    }
  }

  function statOf(ino: number): NativeStat {
    const { mode, uid, gid, size, nlink, rdev, mtime, mtimeNs } = tree.getattr(ino)!;
    const time = Math.max(0, mtime * 1000 + Math.floor(mtimeNs / 1e6));
    const times = { atime: time, mtime: time, ctime: time };
    return {
      mode,
      uid,
      gid,
      size,
      nlink,
      ino: ino - tree.first,
      rdev,
      blksize: 4096,
      blocks: Math.ceil(size / 512),
      ...times,
    };
  }

  const operations: Operations = {
    getattr: (path, done) => answer('getattr', path, done, (ino) => done(0, statOf(ino))),
    readdir: (path, done) =>
      answer('readdir', path, done, (ino) => {
        const names: string[] = [];
        tree.readdir(ino, 0, ({ name }) => {
          const text = utf8(name);
          if (text !== undefined) names.push(text);
          return true;
        });
        done(0, names);
      }),
    readlink: (path, done) =>
      answer('readlink', path, done, (ino) => {
        const target = tree.readlink!(ino);
        const text = target && utf8(target);
        if (text !== undefined) done(0, text);
        else done(target === undefined ? -EINVAL : -EILSEQ);
      }),
    open: (path, flags, done) =>
      answer('open', path, done, (ino) => ((flags & O_ACCMODE) === 0 ? done(0, ino - tree.first) : done(-EROFS))),
    read: (path, handle, buffer, length, position, done) =>
      answer('read', path, done, () => {
        const found = tree.locate(tree.first + handle, position, length);
        if (Array.isArray(found)) void read(found, buffer).then(done);
        else {
          buffer.set(found);
          done(found.length);
        }
      }),
    statfs: (_, done) => done(0, { bsize: 4096, frsize: 4096, namemax: 255 }),
    getxattr: () => {},
    listxattr: () => {},
  };

  function amend(fuse: NativeFuse): void {
    fuse._op_getxattr = (signal, path, name, room) =>
      answer(
        'getxattr',
        path,
        (error) => signal(error, room.buffer),
        (ino) => signal(put(tree.getxattr!(ino, Buffer.from(name)), room), room.buffer),
      );
    fuse._op_listxattr = (signal, path, room) =>
      answer(
        'listxattr',
        path,
        (error) => signal(error, room.buffer),
        (ino) => signal(put(tree.listxattr!(ino), room), room.buffer),
      );
  }

  return { operations, amend };
}

/** Size 0 asks how much room is needed. */
function put(value: Uint8Array | undefined, room: Buffer): number {
  if (value === undefined) return -ENODATA;
  if (room.length === 0) return value.length;
  if (value.length > room.length) return -ERANGE;
  room.set(value);
  return value.length;
}

/** Text of bytes, if they are UTF-8. */
function utf8(bytes: Uint8Array): string | undefined {
  // A copy: text decoders take no shared memory.
  const copy = Buffer.from(bytes);
  const text = copy.toString();
  return Buffer.from(text).equals(copy) ? text : undefined;
}
