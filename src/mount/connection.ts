import type { Cache } from '../cache/cache.ts';
import { kernelHasPassthrough } from '../fuse/backing.ts';
import type { Driver } from '../fuse/driver.ts';
import { createKernelDriver, type KernelDriverOptions } from '../fuse/kernel-driver.ts';
import { createNativeDriver } from '../fuse/native-driver.ts';
import { loadNativeModule } from '../fuse/native-module.ts';
import { twoDrivers } from '../fuse/two-drivers.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { DropPagesRequest } from './drop-pages-job.ts';
import { mountFuse, unmountFuse } from './fuse.ts';
import { nativeWays } from './native-way.ts';
import { createTreeConnection, type TreeDescriptor } from './tree-connection.ts';
import { createTrees } from './trees.ts';
import { erofsWay, treeWay, type Ways } from './ways.ts';

const DROP_PAGES = jobBeside<DropPagesRequest, undefined>(import.meta.url, 'drop-pages-job');

/** How a daemon is joined to FUSE: a driver, and the ways to mount that it allows. */
export interface Connection {
  readonly driver: Driver;
  readonly ways: Ways;
  /** Has the kernel forget what it has read of a blob. */
  dropPages(cached: { ino: number }): Promise<void>;
  /** Inode numbers of the trees that are served. */
  trees(): readonly number[];
  /** Mounts what all image mounts need, unless an earlier daemon has. */
  open(): Promise<void>;
  /** Takes it away. */
  close(): Promise<void>;
}

/** A descriptor of /dev/fuse. `inherited`: an earlier daemon has served on it. */
export interface FuseDescriptor {
  readonly fd: number;
  readonly inherited: boolean;
}

export interface KernelConnectionOptions extends Pick<KernelDriverOptions, 'threads' | 'log' | 'onEnd'> {
  fuse: FuseDescriptor;
  /** A second one, for trees of images. */
  trees?: TreeDescriptor;
  /** Where the first is mounted; the second beside it, with `.trees` behind its name. */
  directory: string;
  /** Makes the kernel know names below these directories, from another process. */
  lookUp: (paths: string[]) => Promise<void>;
}

/** By the kernel's protocol: a file system with all blobs and trees, and maybe a second one ({@link TreeConnection}). */
export function kernelConnection(options: KernelConnectionOptions, cache: Cache, pool: ThreadPool): Connection {
  const { directory, fuse, lookUp, threads, log, onEnd } = options;
  const { openFiles: opens } = cache;
  // On a new connection nothing is open.
  if (!fuse.inherited) for (const { handle } of opens.list()) opens.remove(handle);
  const first = createKernelDriver({ fuseFd: fuse.fd, inherited: fuse.inherited, threads, log, opens, onEnd });
  // Where the kernel takes no files to read in our place, it opens all files by itself on the first.
  const given = kernelHasPassthrough() ? options.trees : undefined;
  const { driver, second } = given === undefined ? { driver: first } : withSecond(first, given, options);
  const trees = createTrees(cache, driver);
  return {
    driver,
    ways: {
      erofs: erofsWay(cache, { directory, inherited: fuse.inherited }, lookUp),
      fuse: treeWay(cache, trees, pool, { directory, ...fuse }, second, lookUp),
    },
    trees: trees.list,
    // Trees of the second connection have no files that are checked after they are read.
    dropPages: ({ ino }) => pool.run(DROP_PAGES, { fuseFd: fuse.fd, ino, trees: trees.using({ ino }) }),
    open: async () => {
      if (!fuse.inherited) await mountFuse(fuse.fd, directory);
      await second?.takeUp();
    },
    close: async () => {
      await second?.close();
      await unmountFuse(directory);
    },
  };
}

function withSecond(first: Driver, trees: TreeDescriptor, { directory, threads, log }: KernelConnectionOptions) {
  const { fd, inherited } = trees;
  const other = createKernelDriver({ fuseFd: fd, inherited, threads, log, onEnd: () => trees.onEnd() });
  const driver = twoDrivers(first, other, inherited);
  const second = createTreeConnection(trees, { directory: `${directory}.trees`, start: driver.startSecond, log });
  return { driver, second };
}

/**
 * By libfuse: a file system for each image.
 * @throws NymphError `unsupported` where the package or libfuse is missing
 */
export async function nativeConnection(log: KernelDriverOptions['log'], cache: Cache): Promise<Connection> {
  const driver = createNativeDriver(await loadNativeModule(), { log });
  const trees = createTrees(cache, driver);
  return {
    driver,
    ways: nativeWays(cache, driver, trees),
    trees: trees.list,
    // libfuse has no way to say it: pages that were read stay until the kernel drops them.
    dropPages: async () => {},
    open: async () => {},
    close: async () => {},
  };
}
