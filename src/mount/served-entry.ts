import type { CachedBlob } from '../cache/cache.ts';
import type { BlobFetcher } from '../fetch/fetcher.ts';
import type { PieceChecksum } from '../image/files.ts';
import type { Alternatives } from '../sources/alternatives.ts';

/** A blob that is open: cached, fetched, and visible to the FUSE driver. Shared by all mounts and pulls that use it. */
export interface ServedBlob {
  readonly cached: CachedBlob;
  readonly fetcher: BlobFetcher;
  /** The last read that waited: where, when (Unix time, ms), and how far somebody has filled ahead of it since. */
  reader?: { offset: number; at: number; filled: number };
}

/** A served blob as those know it who serve it. */
export interface Entry extends ServedBlob {
  readonly sources: Alternatives;
  /** Checksums of pieces, by who knew some first. */
  pieces?: readonly PieceChecksum[];
  /** What `serve` has given out, and how to take its source away. */
  users: Map<ServedBlob, () => void>;
  /** Reads of the descriptor that are under way in this thread's pool. */
  reads: Set<Promise<unknown>>;
  closing: Promise<void> | undefined;
}
