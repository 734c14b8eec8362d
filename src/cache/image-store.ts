import type { Stats } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { NymphError } from '../errors.ts';
import type { OciDigest } from '../image/image.ts';
import type { StoredImage } from './cache.ts';
import type { Catalogue } from './catalogue.ts';
import { replaceWhole, syncWhole, writeWhole } from './disk.ts';
import type { Place } from './entry.ts';
import { cacheError } from './health.ts';
import { bytesOnDisk, imageDirectory, OCI_DIGEST } from './layout.ts';
import { createSerialTasks } from './serial.ts';
import type { Trash } from './trash.ts';

/** Of an image. */
const FILES = ['bootstrap', 'image.json'];
/** Bytes compared in one go. */
const SLICE = 1024 * 1024;

export interface ImageStore {
  put(image: StoredImage, bootstrap: Uint8Array): Promise<string>;
  /** False if it is not there. */
  remove(digest: OciDigest): Promise<boolean>;
  /** Rejects with code `not-found` if it is not there. */
  pin(digest: OciDigest, pinned: boolean): Promise<void>;
  /** Keys of the blobs of pinned images. */
  pinnedBlobs(): ReadonlySet<string>;
  bootstrapPath(digest: OciDigest): string;
  /** Bytes on disk of each image. */
  readonly bytes: ReadonlyMap<OciDigest, number>;
}

export function createImageStore(
  place: Place,
  catalogue: Catalogue,
  trash: Trash,
  bytes: Map<OciDigest, number>,
): ImageStore {
  const { disk, layout, health } = place;
  const tasks = createSerialTasks();
  /** Keys of its blobs, by pinned image. */
  const pins = new Map<OciDigest, string[]>();
  for (const image of catalogue.images()) notePin(image);
  let made = 0;

  function notePin({ digest, pinned, blobs }: StoredImage): void {
    if (pinned)
      pins.set(
        digest,
        blobs.map(({ key }) => key),
      );
    else pins.delete(digest);
  }

  function bootstrapPath(digest: OciDigest): string {
    if (!OCI_DIGEST.test(digest)) throw new NymphError('usage', `${JSON.stringify(digest)} is not an OCI digest`);
    return join(imageDirectory(layout, digest), 'bootstrap');
  }

  async function syncFiles(digest: OciDigest): Promise<void> {
    try {
      for (const name of FILES) await syncWhole(disk, join(imageDirectory(layout, digest), name));
    } catch (error) {
      health.failed(`image ${digest}`, error);
    }
  }

  async function make(image: StoredImage, bootstrap: Uint8Array, description: Uint8Array): Promise<void> {
    const temporary = join(layout.temporary, `image-${made++}`);
    try {
      await disk.mkdir(temporary);
      await writeWhole(disk, join(temporary, 'bootstrap'), bootstrap);
      await writeWhole(disk, join(temporary, 'image.json'), description);
      const directory = imageDirectory(layout, image.digest);
      if ((await statOrAbsent(directory)) === undefined) return await disk.rename(temporary, directory);
      // Mounts may use the damaged one: there is an image at each moment, also for a daemon that starts just then.
      for (const name of FILES) await disk.rename(join(temporary, name), join(directory, name));
      await disk.remove(temporary);
    } catch (error) {
      await disk.remove(temporary).catch(() => {}); // what stays is removed at the next start
      throw error;
    }
  }

  return {
    bytes,
    bootstrapPath,
    async put(image, bootstrap) {
      const path = bootstrapPath(image.digest);
      await tasks.run(image.digest, async () => {
        const kept = withPin(image, pins.has(image.digest));
        const description = Buffer.from(JSON.stringify(kept));
        try {
          // The digest names the bootstrap, so another content is damage.
          if (await holds(path, bootstrap)) await replaceWhole(disk, `${path.slice(0, -9)}image.json`, description);
          else {
            await make(image, bootstrap, description);
            // Nobody waits for the disk: after a power cut what is not whole is noticed, and fetched again.
            void tasks.run(image.digest, () => syncFiles(image.digest));
          }
          catalogue.putImage(kept);
          notePin(kept);
          bytes.set(image.digest, await bytesOnDisk(path, `${path.slice(0, -9)}image.json`));
        } catch (error) {
          health.failed(`image ${image.digest}`, error);
          throw cacheError(`cannot keep the image ${image.reference}`, error);
        }
      });
      return path;
    },
    async remove(digest) {
      const path = bootstrapPath(digest);
      return tasks.run(digest, async () => {
        if (!bytes.has(digest)) return false;
        if (catalogue.mounts().some((mount) => mount.digest === digest))
          throw new NymphError('busy', `the image ${digest} is mounted`, { hint: 'Unmount it first.' });
        try {
          await trash.discard(join(path, '..'));
          bytes.delete(digest);
          pins.delete(digest);
          catalogue.removeImage(digest);
        } catch (error) {
          throw cacheError(`cannot remove the image ${digest}`, error);
        }
        return true;
      });
    },
    async pin(digest, pinned) {
      const description = join(bootstrapPath(digest), '..', 'image.json');
      await tasks.run(digest, async () => {
        const image = catalogue.image(digest);
        if (image === undefined) throw new NymphError('not-found', `no image ${digest} is here`);
        const kept = withPin(image, pinned);
        try {
          await replaceWhole(disk, description, Buffer.from(JSON.stringify(kept)));
          catalogue.putImage(kept);
        } catch (error) {
          health.failed(`image ${digest}`, error);
          throw cacheError(`cannot ${pinned ? 'pin' : 'unpin'} the image ${image.reference}`, error);
        }
        notePin(kept);
      });
    },
    pinnedBlobs: () => new Set([...pins.values()].flat()),
  };
}

function withPin({ pinned: _, ...image }: StoredImage, pinned: boolean): StoredImage {
  return pinned ? { ...image, pinned } : image;
}

/** True if the file exists and holds exactly these bytes. Read and compared in slices. */
async function holds(path: string, bytes: Uint8Array): Promise<boolean> {
  const found = await statOrAbsent(path);
  if (found?.size !== bytes.length) return false;
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafe(Math.min(SLICE, bytes.length));
    for (let at = 0; at < bytes.length; ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
      if (bytesRead === 0) return false;
      if (!buffer.subarray(0, bytesRead).equals(bytes.subarray(at, at + bytesRead))) return false;
      at += bytesRead;
    }
    return true;
  } catch {
    // A bad sector: what cannot be read is written again.
    return false;
  } finally {
    await file.close();
  }
}

function statOrAbsent(path: string): Promise<Stats | undefined> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
}
