import { join } from 'node:path';
import type { Cache, MountKind, StoredMount } from '../cache/cache.ts';
import { isRemembered } from '../fuse/notify.ts';
import { isOfFiles } from '../image/image.ts';
import { jobBeside } from '../threads/job.ts';
import type { ThreadPool } from '../threads/pool.ts';
import { type AttachedImage, isComplete } from './attach.ts';
import { fitsOptions, mountErofs, unmount } from './erofs.ts';
import { BLOBS_DIRECTORY, blobName } from './flat.ts';
import type { MountEntry } from './mountinfo.ts';
import { namingSuperBlock, superBlocks, widenReadAhead } from './super-block.ts';
import { bindTree, isTree, treePath } from './tree.ts';
import type { TreeConnection, TreePlace } from './tree-connection.ts';
import type { TreeUseRequest } from './tree-use-job.ts';
import type { Trees } from './trees.ts';

/** A way to make an image visible on a directory. What `Mounts` keeps of each mount, and when, is not its business. */
export interface Way {
  /** Serves what the kernel will read, until the image is released. @returns what is to be kept with the mount */
  serve(image: AttachedImage): Promise<Pick<StoredMount, 'tree'>>;
  /**
   * Mounts. On failure nothing is left behind.
   * @returns `stored`, with what the kernel says of it
   * @throws NymphError `unsupported` where this kernel cannot
   */
  mount(image: AttachedImage, stored: StoredMount): Promise<StoredMount>;
  /** @param detach out of sight at once, also where it is in use @throws NymphError `busy` */
  unmount(directory: string, detach: boolean): Promise<void>;
  /** True if what is mounted on a directory is this. */
  isThere(there: MountEntry | undefined, stored: StoredMount): boolean;
  /** True if the connection that a mount of the last daemon reads through is still there. */
  isAlive(stored: StoredMount): boolean;
  /** True if something still uses a mount that is gone: an overlay or a bind mount above, an open file. */
  isUsed(stored: StoredMount): Promise<boolean>;
}

export type Ways = Record<MountKind, Way>;

/** Makes the kernel know names in our FUSE file system, from a process that does not serve them. */
type LookUp = (paths: string[]) => Promise<void>;

/** The kernel remembers what nobody uses any more until it is told to forget it, which takes a walk through the tree. */
const LOOK_AGAIN_MS = 5_000;
const TREE_USE = jobBeside<TreeUseRequest, number | undefined>(import.meta.url, 'tree-use-job');

/** By the kernel's EROFS driver, over the bootstrap and our blob files. */
export function erofsWay(
  cache: Cache,
  { directory: fuseDirectory, inherited }: { directory: string; inherited: boolean },
  lookUp: LookUp,
): Way {
  function devicesOf({ blobs }: AttachedImage): string[] {
    const served = blobs.map(({ cached }) => join(fuseDirectory, BLOBS_DIRECTORY, blobName(cached)));
    // A complete blob needs no FUSE in the way: 8–10 GB/s page-cold.
    const direct = blobs.map((blob, i) => (isComplete(blob) ? blob.cached.dataPath : served[i]));
    // Names in the cache are long, and the kernel takes one page of options: some 40 blobs, or 110 by their short names.
    return fitsOptions(direct) ? direct : served;
  }

  return {
    serve: async () => ({}),
    async mount(image, stored) {
      const { directory, allowDevices } = stored;
      const devices = devicesOf(image);
      const throughFuse = devices.filter((path) => path.startsWith(fuseDirectory));
      await lookUp(throughFuse);
      const superBlock = await namingSuperBlock(() =>
        mountErofs({ bootstrap: image.bootstrap, devices, directory, allowDevices }),
      );
      if (superBlock !== undefined && throughFuse.length === 0) await widenReadAhead(superBlock);
      return { ...stored, superBlock };
    },
    unmount,
    isThere: (there, { digest }) => there?.type === 'erofs' && there.source === cache.bootstrapPath(digest),
    isAlive: () => inherited,
    isUsed: async ({ superBlock }) => superBlock !== undefined && (await superBlocks()).has(superBlock),
  };
}

/**
 * As a tree in a FUSE file system of ours, bound to the directory.
 * @param main the connection for all @param second the one that is better for images
 */
export function treeWay(
  cache: Cache,
  trees: Trees,
  pool: ThreadPool,
  main: TreePlace & { inherited: boolean },
  second: TreeConnection | undefined,
  lookUp: LookUp,
): Way {
  /** Of each tree that was in use, by connection: an inode that was, and when all were looked at. */
  const used = new Map<string, { ino: number; at: number }>();

  return {
    serve: async (image) => ({ tree: await trees.serve(image) }),
    async mount(image, stored) {
      const isSecond = second !== undefined && !isOfFiles(image.stored) && (await second.open());
      const path = treePath((isSecond ? second : main).directory, stored.tree!);
      await lookUp([path]);
      await bindTree(path, stored.directory, stored.allowDevices);
      return { ...stored, second: isSecond || undefined };
    },
    unmount,
    isThere: isTree,
    isAlive({ second: isSecond, unmounted }) {
      const isSecondAlive = second?.inherited === true;
      // What is in use without its mount may be so on either.
      if (unmounted) return main.inherited || isSecondAlive;
      return isSecond ? isSecondAlive : main.inherited;
    },
    async isUsed({ tree, digest }) {
      const first = tree!;
      // Who reads through this one is served by the others, until the last of them is asked: on whichever connection.
      if (trees.isShared(first)) return false;
      for (const { fd } of second?.isOpen() ? [main, second] : [main])
        if (await isUsedBy(fd, first, cache.bootstrapPath(digest))) return true;
      return false;
    },
  };

  async function isUsedBy(fuseFd: number, first: number, bootstrap: string): Promise<boolean> {
    const key = `${fuseFd} ${first}`;
    const known = used.get(key);
    if (known !== undefined && performance.now() - known.at < LOOK_AGAIN_MS && isRemembered(fuseFd, known.ino))
      return true;
    const ino = await pool.run(TREE_USE, { fuseFd, first, bootstrap });
    if (ino === undefined) used.delete(key);
    else used.set(key, { ino, at: performance.now() });
    return ino !== undefined;
  }
}
