import { NymphError } from '../errors.ts';

/**
 * The optional package `fuse-native` 2.2.6: libfuse 2 behind callbacks on the main thread. Paths are strings; a callback
 * is given a negative errno, or what README of the package says. Types for what of it we use.
 */
export interface NativeStat {
  mode: number;
  uid: number;
  gid: number;
  size: number;
  nlink: number;
  /** 32 bits. */
  ino: number;
  rdev: number;
  blksize: number;
  blocks: number;
  /** Unix times in ms, from 0 on. */
  atime: number;
  mtime: number;
  ctime: number;
}

type Done<T extends unknown[] = []> = (error: number, ...result: T) => void;

export interface Operations {
  getattr(path: string, done: Done<[NativeStat?]>): void;
  readdir(path: string, done: Done<[string[]?]>): void;
  readlink(path: string, done: Done<[string?]>): void;
  open(path: string, flags: number, done: Done<[number?]>): void;
  /** `done` is given the number of bytes in `buffer`. */
  read(path: string, fd: number, buffer: Buffer, length: number, position: number, done: Done): void;
  statfs(path: string, done: Done<[Record<string, number>?]>): void;
  /** Only so that libfuse asks: the package passes no sizes, see {@link NativeFuse._op_getxattr}. */
  getxattr(): void;
  listxattr(): void;
}

/** One mount. The underscored are the package's own, which we replace where it is wrong. */
export interface NativeFuse {
  mount(done: (error: Error | null) => void): void;
  /** Frees what libfuse holds, when the mount is gone. */
  unmount(done: (error: Error | null) => void): void;
  _fuseOptions: () => string;
  _op_getxattr: (signal: Signal, path: string, name: string, room: Buffer) => void;
  _op_listxattr: (signal: Signal, path: string, room: Buffer) => void;
}

/** @param result a size, or a negative errno @param memory that of `room` */
type Signal = (result: number, memory: ArrayBufferLike) => void;

export interface NativeModule {
  new (directory: string, operations: Operations, options: { timeout: false }): NativeFuse;
  unmount: (directory: string, done: (error: Error | null) => void) => void;
}

/** @throws NymphError `unsupported` where the package or libfuse is missing */
export async function loadNativeModule(): Promise<NativeModule> {
  try {
    const loaded = (await import('fuse-native')) as unknown as { default: NativeModule };
    return loaded.default;
  } catch (error) {
    const why = (error as Error).message.split('\n')[0];
    throw new NymphError('unsupported', `the driver fuse-native cannot be loaded: ${why}`, {
      hint: /libfuse/.test(why)
        ? 'Install libfuse 2 (Debian: apt-get install libfuse2 fuse3).'
        : 'Install the package in the directory of nymph (npm install fuse-native); it is there for Linux on x86-64.',
      cause: error,
    });
  }
}
