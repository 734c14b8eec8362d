import type { Codec, DigestAlgorithm } from '../../image/image.ts';
import type { Bootstrap, ReadResult } from './bootstrap.ts';
import type { TreeCounts } from './counts.ts';
import { BLOB_FEATURES, bitNames, SUPER_BLOCK_FLAGS } from './flags.ts';

/** What `nymph inspect` tells of a bootstrap; JSON-safe. Sizes in bytes. */
export interface BootstrapDescription {
  format: 'RAFS v5' | 'RAFS v6';
  /** As its builder wrote it. */
  size: number;
  flags: string[];
  compressor: Codec;
  digester: DigestAlgorithm;
  chunkSize: number;
  /** Seconds since 1970; absent where the builder left it out. */
  buildTime?: number;
  counts: TreeCounts;
  chunks: number;
  frames: number;
  /** Entries of the prefetch table, and whether they mean the whole image. */
  prefetch: { entries: number; all: boolean };
  verifiable: boolean;
  blobs: BlobDescription[];
}

export interface BlobDescription {
  id: string;
  features: string[];
  compressor: Codec;
  digester: DigestAlgorithm;
  uncompressedSize: number;
  /** Bytes of chunk data in the object. */
  dataSize: number;
  /** Chunks in the blob, and those that the image refers to. */
  chunkCount: number;
  chunks: number;
  frames: number;
}

/** Describes a bootstrap that `readImage` has read. */
export function describeBootstrap(bootstrap: Bootstrap, result: ReadResult): BootstrapDescription {
  const { erofs, superBlock } = bootstrap;
  const { image } = result;
  return {
    format: bootstrap.format === 'rafs-v5' ? 'RAFS v5' : 'RAFS v6',
    size: bootstrap.size,
    flags: bitNames(superBlock.flags, SUPER_BLOCK_FLAGS),
    compressor: superBlock.compressor,
    digester: superBlock.digester,
    chunkSize: superBlock.chunkSize,
    buildTime: erofs.buildTime === 0 ? undefined : erofs.buildTime,
    counts: result.counts,
    chunks: image.blobs.reduce((sum, blob) => sum + blob.chunks.count, 0),
    frames: image.blobs.reduce((sum, blob) => sum + blob.frames.count, 0),
    prefetch: { entries: result.prefetchEntries, all: image.prefetch === 'all' },
    verifiable: image.verifiable,
    blobs: bootstrap.blobs.map((entry, i) => ({
      id: entry.id,
      features: bitNames(entry.features, BLOB_FEATURES),
      compressor: entry.compressor,
      digester: entry.digester,
      uncompressedSize: entry.uncompressedSize,
      dataSize: entry.dataSize,
      chunkCount: entry.chunkCount,
      chunks: image.blobs[i].chunks.count,
      frames: image.blobs[i].frames.count,
    })),
  };
}
