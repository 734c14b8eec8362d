import type { Cache } from '../cache/cache.ts';
import type { Driver } from '../fuse/driver.ts';
import { createKernelDriver, type KernelDriverOptions } from '../fuse/kernel-driver.ts';
import { createNativeDriver } from '../fuse/native-driver.ts';
import { loadNativeModule } from '../fuse/native-module.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { DropPagesRequest } from './drop-pages-job.ts';
import { mountFuse, unmountFuse } from './fuse.ts';
import { nativeWays } from './native-way.ts';
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

/** By the kernel's protocol: one file system, mounted on `directory`, with all blobs and trees. */
export function kernelConnection(
  options: KernelDriverOptions & {
    directory: string;
    /** Makes the kernel know names below `directory`, from another process. */
    lookUp: (paths: string[]) => Promise<void>;
  },
  cache: Cache,
  pool: ThreadPool,
): Connection {
  const { directory, fuseFd, inherited, lookUp } = options;
  const { openFiles: opens } = cache;
  // On a new connection nothing is open.
  if (!inherited) for (const { handle } of opens.list()) opens.remove(handle);
  const driver = createKernelDriver({ ...options, opens });
  const trees = createTrees(cache, driver);
  return {
    driver,
    ways: {
      erofs: erofsWay(cache, directory, lookUp),
      fuse: treeWay(cache, trees, pool, { directory, fd: fuseFd }, lookUp),
    },
    trees: trees.list,
    dropPages: ({ ino }) => pool.run(DROP_PAGES, { fuseFd, ino, trees: trees.using({ ino }) }),
    open: async () => {
      if (!inherited) await mountFuse(fuseFd, directory);
    },
    close: () => unmountFuse(directory),
  };
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
