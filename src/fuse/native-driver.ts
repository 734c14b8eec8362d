import { read as readCallback } from 'node:fs';
import { constants } from 'node:os';
import { promisify } from 'node:util';
import { isReady, setReady, takeMark } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import {
  type Driver,
  type DriverStatistics,
  type Extent,
  type FileSystem,
  type RegisteredFile,
  type RegisteredTree,
  ZEROS,
} from './driver.ts';
import type { NativeFuse, NativeModule } from './native-module.ts';
import { nativeTree } from './native-operations.ts';
import { openTree } from './tree.ts';

/**
 * The driver by libfuse, through the package `fuse-native`: for users without root, and where our kernel protocol does
 * not work. Each tree is a mount of its own, with a connection that ends with this process; there are no blob files, so
 * no EROFS. All of libfuse's requests come to this thread.
 */
export interface NativeDriver extends Driver {
  /** Mounts a registered tree on a directory. @throws NymphError `mount` */
  mountTree(first: number, directory: string): Promise<void>;
  /** Frees what belongs to a mount that was taken away. */
  forgetMount(directory: string): void;
}

export interface NativeDriverOptions {
  log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: object) => void;
}

const readFd = promisify(readCallback);
const { EIO, EINTR } = constants.errno;
/** Bytes of a bootstrap read in one go. */
const SLICE = 1 << 20;
/** Names never change: the kernel may remember them for a day. */
const REMEMBER = ['entry_timeout', 'attr_timeout', 'negative_timeout', 'ac_attr_timeout'].map(
  (name) => `${name}=86400`,
);

interface OpenFile extends RegisteredFile {
  /** Reads that are under way. */
  reads: Set<Promise<unknown>>;
}

export function createNativeDriver(native: NativeModule, { log }: NativeDriverOptions): NativeDriver {
  const files = new Map<number, OpenFile>();
  const trees = new Map<number, RegisteredTree>();
  const mounts = new Map<string, NativeFuse>();
  const stopping = new AbortController();
  const counts = { hits: 0, hitBytes: 0, faults: 0, waiting: 0 };
  let fileSystem: FileSystem;
  // The package would run a shell with the directory in the command line; we have unmounted already.
  native.unmount = (_, done) => done(null);

  async function readExtents(extents: readonly Extent[], buffer: Buffer): Promise<number> {
    try {
      const length = await readHere(extents, buffer);
      if (length !== undefined) return length;
      counts.faults++;
      counts.waiting++;
      const parts = await fileSystem.read(extents, stopping.signal).finally(() => counts.waiting--);
      let used = 0;
      for (const part of parts) {
        buffer.set(part, used);
        used += part.length;
      }
      return used;
    } catch (error) {
      return error instanceof NymphError && error.code === 'cancelled' ? -EINTR : -EIO;
    }
  }

  /** Undefined if not every byte is here. */
  async function readHere(extents: readonly Extent[], buffer: Buffer): Promise<number | undefined> {
    let used = 0;
    for (const { ino, offset, length } of extents) {
      if (ino === ZEROS) buffer.fill(0, used, used + length);
      else {
        const file = files.get(ino);
        if (file === undefined || !isReady(file.ready, offset, length)) return undefined;
        const reading = readFd(file.fd, buffer, used, length, offset).finally(() => file.reads.delete(reading));
        file.reads.add(reading);
        // What the disk refuses is for the file system to repair and to report.
        const got = await reading.then(({ bytesRead }) => bytesRead).catch(() => 0);
        if (got !== length) return undefined;
        if (takeMark(file.ready, offset, length)) fileSystem.reached(ino, offset);
      }
      used += length;
    }
    counts.hits++;
    counts.hitBytes += used;
    return used;
  }

  /** This thread must not wait for the disk when it answers: so all of the bootstrap is in memory before it is mounted. */
  async function readWhole({ fd, bytes, present }: RegisteredTree): Promise<void> {
    const all = new Uint8Array(bytes);
    for (let at = 0; at < all.length; ) {
      const { bytesRead } = await readFd(fd, all, at, Math.min(SLICE, all.length - at), at);
      if (bytesRead === 0) throw new NymphError('corrupt', `the bootstrap ends at byte ${at}`);
      at += bytesRead;
    }
    setReady(present, 0, all.length);
  }

  async function mountTree(first: number, directory: string): Promise<void> {
    const tree = trees.get(first);
    if (tree === undefined) throw new NymphError('internal', `tree ${first} is not registered`);
    await readWhole(tree);
    const opened = openTree({ ...tree, present: tree.present.words.buffer });
    const failed = (what: string, path: string, error: unknown) =>
      log('error', 'a FUSE request failed', { op: what, path, error: (error as Error).message });
    const { operations, amend } = nativeTree(opened, readExtents, failed);
    const fuse = new native(directory, operations, { timeout: false });
    fuse._fuseOptions = () => `-o${mountOptions().join(',')}`;
    amend(fuse);
    await new Promise<void>((resolve, reject) => {
      fuse.mount((error) => {
        if (error === null) resolve();
        else
          reject(
            new NymphError('mount', `libfuse cannot mount on ${directory}: ${error.message}`, {
              hint: 'Without root it needs fusermount (Debian: fuse3) and a directory of the user’s own; the log has what it said.',
            }),
          );
      });
    });
    mounts.set(directory, fuse);
  }

  function forgetMount(directory: string): void {
    mounts.get(directory)?.unmount(() => {});
    mounts.delete(directory);
  }

  async function unregister(ino: number): Promise<void> {
    const file = files.get(ino);
    files.delete(ino);
    if (file !== undefined) await Promise.allSettled(file.reads);
  }

  return {
    name: 'fuse-native',
    async start(served) {
      fileSystem = served;
    },
    register: (file) => void files.set(file.ino, { ...file, reads: new Set() }),
    unregister,
    registerTree: (tree) => void trees.set(tree.first, tree),
    async unregisterTree(first) {
      trees.delete(first);
    },
    mountTree,
    forgetMount,
    statistics: (): DriverStatistics => ({ requests: {}, ...counts }),
    async stop() {
      stopping.abort();
      await Promise.allSettled([...files.values()].flatMap(({ reads }) => [...reads]));
    },
  };
}

/**
 * Root mounts for everybody, and the kernel checks modes. Others mount for themselves alone: they have all the bytes
 * anyway, whoever the image says that owns them.
 */
function mountOptions(): string[] {
  const access = process.getuid?.() === 0 ? ['allow_other', 'default_permissions'] : [];
  return ['ro', 'fsname=nymph', 'use_ino', 'kernel_cache', ...access, ...REMEMBER];
}
