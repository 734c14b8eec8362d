import { read as readFile } from 'node:fs';
import { promisify } from 'node:util';
import type { Cache, CachedBlob, Scratch } from '../cache/cache.ts';
import { coveredBlocks } from '../cache/readiness.ts';
import { countReady } from '../cache/ready-map.ts';
import { isOfFiles, type OciDigest, type StreamCodec } from '../image/image.ts';

/** What the cache has of layers that were unpacked once, and where it takes those that are unpacked now. */
export interface UnpackedLayers {
  /** What a layer unpacks to, if all of it is here. It was found to have its digest. */
  find(digest: OciDigest, codec: StreamCodec): Promise<HeldLayer | undefined>;
  /** Undefined if the cache takes nothing now. */
  scratch(): Promise<Scratch | undefined>;
}

export interface HeldLayer {
  readonly size: number;
  /** As in Unpacked. */
  readonly digests: Uint8Array;
  read(offset: number, length: number): Promise<Buffer>;
  release(): Promise<void>;
}

const readFd = promisify(readFile);

export function createUnpackedLayers(cache: Cache): UnpackedLayers {
  return {
    async find(digest, codec) {
      // Only what we have unpacked ourselves: anybody can name a blob of an image as he likes.
      const known = cache
        .images()
        .filter(isOfFiles)
        .flatMap(({ blobs }) => blobs)
        .find((blob) => blob.digest === digest && blob.unpacked === codec);
      const cached = known && (await cache.reopen(known.key));
      if (cached === undefined) return undefined;
      if (countReady(cached.ready) >= coveredBlocks(cached.chunks)) return heldLayer(cache, cached);
      await cache.release(cached);
      return undefined;
    },
    scratch: () => cache.scratch().catch(() => undefined),
  };
}

function heldLayer(cache: Cache, cached: CachedBlob): HeldLayer {
  return {
    size: cached.size,
    digests: cached.chunks.digest,
    async read(offset, length) {
      const bytes = Buffer.allocUnsafe(length);
      const { bytesRead } = await readFd(cached.fd, bytes, 0, length, offset);
      return bytes.subarray(0, bytesRead);
    },
    release: () => cache.release(cached),
  };
}
