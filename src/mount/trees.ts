import { type FileHandle, open } from 'node:fs/promises';
import type { Cache } from '../cache/cache.ts';
import { createReadyMap } from '../cache/ready-map.ts';
import { type Driver, TREE_GRAIN } from '../fuse/driver.ts';
import { grainsOf } from '../fuse/forest.ts';
import { isOfFiles, type OciDigest } from '../image/image.ts';
import type { AttachedImage } from './attach.ts';
import type { BlobUse } from './drop-pages-job.ts';

/** The trees that the FUSE driver serves: one for each image, while somebody uses it. */
export interface Trees {
  /** Serves the tree of an image until the image is released. @returns where its inode numbers begin */
  serve(image: AttachedImage): Promise<number>;
  /** Those that are served now. */
  list(): number[];
  /** The trees that have files in a blob. */
  using(cached: { ino: number }): BlobUse[];
  /** True if more than one image is released before the tree goes. */
  isShared(first: number): boolean;
}

interface Entry {
  readonly opened: Promise<{ first: number; bootstrap: FileHandle }>;
  first: number | undefined;
  users: number;
  /** Of its blobs, in the order of the device table. */
  readonly inos: readonly number[];
  readonly path: string;
}

export function createTrees(cache: Cache, driver: Driver): Trees {
  const entries = new Map<OciDigest, Entry>();

  async function serve(image: AttachedImage): Promise<number> {
    const { digest } = image.stored;
    let entry = entries.get(digest);
    if (entry === undefined) {
      const inos = image.blobs.map(({ cached }) => cached.ino);
      entry = { opened: begin(image), first: undefined, users: 0, inos, path: image.bootstrap };
      entries.set(digest, entry);
    }
    const served = entry;
    served.users++;
    image.onRelease(() => leave(digest, served));
    try {
      const { first } = await served.opened;
      served.first = first;
      return first;
    } catch (error) {
      if (entries.get(digest) === served) entries.delete(digest);
      throw error;
    }
  }

  async function begin(image: AttachedImage): Promise<{ first: number; bootstrap: FileHandle }> {
    const bootstrap = await open(image.bootstrap, 'r');
    try {
      const { size } = await bootstrap.stat();
      const { digest, bootstrapDigest } = image.stored;
      // What the kernel remembers of a tree holds for these bytes alone.
      const first = cache.inodeRange(`${digest} ${bootstrapDigest}`, grainsOf(size) * TREE_GRAIN);
      driver.registerTree({
        first,
        fd: bootstrap.fd,
        // Memory that nobody wrote to is not there yet: threads fill it as far as it is asked for.
        bytes: new SharedArrayBuffer(size),
        present: createReadyMap(size),
        blobs: image.blobs.map(({ cached }) => cached.ino),
        isOfFiles: isOfFiles(image.stored),
      });
      return { first, bootstrap };
    } catch (error) {
      await bootstrap.close();
      throw error;
    }
  }

  async function leave(digest: OciDigest, entry: Entry): Promise<void> {
    if (--entry.users > 0) return;
    if (entries.get(digest) === entry) entries.delete(digest);
    const opened = await entry.opened.catch(() => undefined);
    if (opened === undefined) return;
    await driver.unregisterTree(opened.first);
    await opened.bootstrap.close();
  }

  return {
    serve,
    using: ({ ino }) =>
      [...entries.values()].flatMap(({ first, path, inos }) => {
        const device = inos.indexOf(ino) + 1;
        return first === undefined || device === 0 ? [] : { first, bootstrap: path, device };
      }),
    isShared: (first) => [...entries.values()].some((entry) => entry.first === first && entry.users > 1),
    list: () => [...entries.values()].flatMap(({ first }) => first ?? []),
  };
}
