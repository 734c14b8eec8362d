import type { CachedBlob } from '../cache/cache.ts';
import type { BlobFetcher } from '../fetch/fetcher.ts';
import type { PieceChecksum } from '../image/files.ts';
import type { Source } from '../sources/source.ts';

/** A blob that is open: cached, fetched, and visible to the FUSE driver. Shared by all mounts and pulls that use it. */
export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly fetcher: BlobFetcher;
  /** The last read that waited: where, when (`performance.now()`), and how far somebody has filled ahead of it since. */
  readonly seen: { reader?: { offset: number; at: number; filled: number } };
}

/** A served blob as those know it who serve it. */
export interface Entry extends ServedBlob {
  /** Where it comes from: a place for each user, the one that worked last before the others. */
  readonly places: Source[];
  /** Checksums of pieces, by who knew some first. */
  pieces?: readonly PieceChecksum[];
  /** What `serve` has given out, and their places. */
  users: Map<ServedBlob, Source>;
  /** Reads of the descriptor that are under way in this thread's pool. */
  reads: Set<Promise<unknown>>;
  closing: Promise<void> | undefined;
}
