/**
 * What an image is, whatever format it came from. No I/O here.
 *
 * An image is a tree plus its blobs. A *blob* is a flat, byte-addressable file: the uncompressed content of one RAFS
 * data blob. A *chunk* is a range of a blob with its digest: the unit of verifying. A *frame* is a range of the stored
 * object that is decoded in one go: the unit of fetching. Mostly a frame holds one chunk; a batch holds several.
 *
 * Tables are structures of arrays: an image has up to 2^24 chunks, and an object for each would not fit.
 */

export type DigestAlgorithm = 'sha256' | 'blake3';

/** How the chunks of a blob are verified; `none`: only the whole is, where it has a {@link WholeDigest}. */
export type ChunkDigest = DigestAlgorithm | 'none';

/** The digest of a whole file: `git-sha1` is that of a git blob, over `blob <size>\0` and the content. */
export interface WholeDigest {
  readonly algorithm: 'sha256' | 'git-sha1';
  /** 64 or 40 lower-case hex characters. */
  readonly hex: string;
}

/** Names as in `reference` of RAFS: `lz4_block` is a raw LZ4 block without frame or length. */
export type Codec = 'none' | 'lz4_block' | 'gzip' | 'zstd';
export const CODECS: readonly Codec[] = ['none', 'lz4_block', 'gzip', 'zstd'];

/** How a whole stream is packed; `none` for as it is. */
export type StreamCodec = 'none' | 'gzip' | 'zstd';

/** Chunks of blobs start at multiples of this many bytes, and readiness is kept at this grain. */
export const BLOCK_SIZE = 4096;

/** The end of the block that `size` bytes reach into. */
export function wholeBlocks(size: number): number {
  return Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
}

/** `sha256:<64 hex>`: an OCI digest. */
export type OciDigest = `sha256:${string}`;

/**
 * Frames, strictly ascending by `offset`. They overlap only where there are `contexts`, and then as little as
 * {@link coverageLimit} says. All offsets and sizes in bytes.
 */
export interface FrameTable {
  readonly count: number;
  /** Where the frame starts in the stored object. */
  readonly offset: Float64Array;
  /** Stored (encoded) bytes, at least 1. */
  readonly size: Uint32Array;
  /** Bytes after decoding, at least 1. */
  readonly decodedSize: Uint32Array;
  /** Index into {@link CODECS}. */
  readonly codec: Uint8Array;
  /** Present where all frames are pieces of one gzip stream that begin in its midst (ZRAN). */
  readonly contexts?: ContextTable;
}

/** How to inflate frames that begin in the midst of a deflate stream: a row for each frame. */
export interface ContextTable {
  /** Bits of the byte before the frame that belong to it: how many (0 to 7), and their value. */
  readonly bits: Uint8Array;
  readonly value: Uint8Array;
  /**
   * The last bytes that were decoded before the frame (none, or up to {@link MAX_DICTIONARY}): where they are among the
   * blob's dictionaries, and how many. Together no more than these have.
   */
  readonly dictionaryOffset: Float64Array;
  readonly dictionarySize: Uint32Array;
  /** 32 bytes a frame: BLAKE3 of its dictionary. */
  readonly dictionaryDigest: Uint8Array;
}

/** The window of deflate (RFC 1951), bytes. */
export const MAX_DICTIONARY = 32 << 10;

/** Chunks, ascending by `offset`, never overlapping, each offset a multiple of {@link BLOCK_SIZE}. */
export interface ChunkTable {
  readonly count: number;
  /** Where the chunk starts in the blob's (uncompressed) address space. */
  readonly offset: Float64Array;
  /** Uncompressed bytes, at least 1. */
  readonly size: Uint32Array;
  /** 32 bytes a chunk: digest of the uncompressed bytes. Empty where chunks have none. */
  readonly digest: Uint8Array;
  /** Index into the blob's frames. */
  readonly frame: Uint32Array;
  /** Where the chunk starts in its decoded frame. */
  readonly frameOffset: Uint32Array;
}

export interface Blob {
  /** 64 hex characters: the RAFS blob id. */
  readonly id: string;
  /** The object that holds the frames, as its source names it. */
  readonly digest: OciDigest;
  /** Bytes of the flat file: the uncompressed size, rounded up to {@link BLOCK_SIZE}; of a model's file its own. */
  readonly size: number;
  /** Bytes of the stored object, or of its data region where the object's size is not known. */
  readonly storedSize: number;
  readonly digestAlgorithm: ChunkDigest;
  readonly chunks: ChunkTable;
  readonly frames: FrameTable;
  /** The bytes that `frames.contexts` refers to; with contexts only. Up to 32 MiB for each GB of a layer. */
  readonly dictionaries?: Uint8Array;
  /** The frames are encrypted with this. */
  readonly cipher?: Cipher;
  /** Of the flat file, where its chunks have no digests of their own. */
  readonly whole?: WholeDigest;
  /**
   * Who answers for chunks without digests until the whole is checked: 64 hex characters that name the place they come
   * from. What has come from one place is not shown to who trusts another.
   */
  readonly origin?: string;
  /** How the source finds the object, where its digest does not say: opaque to all others, without secrets. */
  readonly location?: string;
  /** The blob is what the object unpacks to, which was read whole once: frames are pieces of that, and have places there. */
  readonly unpacked?: StreamCodec;
}

/** AES-128-XTS; the unit is a whole frame. */
export interface Cipher {
  /** 32 bytes: both halves. */
  readonly key: Uint8Array;
  /** 16 bytes, the same for every frame. */
  readonly iv: Uint8Array;
}

/** A range of a blob in its uncompressed address space, bytes. */
export interface BlobRange {
  /** Index into {@link Image.blobs}. */
  blob: number;
  offset: number;
  length: number;
}

/** All but the first two are files that stand in their registry or hub as they are: models, mostly. */
export type ImageFormat = 'rafs-v5' | 'rafs-v6' | 'modelpack' | 'modelkit' | 'artifact' | 'hub';

/** Whether an image holds files as they stand in a registry or a hub, and not a tree that a builder has made. */
export function isOfFiles({ format }: { format: string }): boolean {
  return !format.startsWith('rafs');
}

export interface Image {
  readonly format: ImageFormat;
  /** Builder's chunk size in bytes. */
  readonly chunkSize: number;
  readonly inodes: number;
  /** In the order of the EROFS device table. */
  readonly blobs: readonly Blob[];
  /** Ranges that the builder asked to be fetched first; empty where none. `'all'` = the whole image. */
  readonly prefetch: readonly BlobRange[] | 'all';
  /** True if a chunk digest exists for every byte that a reader can reach. See {@link Guarantee} for others. */
  readonly verifiable: boolean;
}

/**
 * What is sure of the bytes of a blob that a reader gets: `chunk`, they were verified before; `file`, the whole is as
 * soon as it is here; `none`, there is nothing to compare with.
 */
export type Guarantee = 'chunk' | 'file' | 'none';

export function guaranteeOf({ digestAlgorithm, whole }: Pick<Blob, 'digestAlgorithm' | 'whole'>): Guarantee {
  if (digestAlgorithm !== 'none') return 'chunk';
  return whole === undefined ? 'none' : 'file';
}

/** What is particular about how a blob is stored. */
export type BlobTrait = 'zran' | 'encrypted' | 'batch';

export function blobTraits({ chunks, frames, cipher }: Pick<Blob, 'chunks' | 'frames' | 'cipher'>): BlobTrait[] {
  const traits: BlobTrait[] = [];
  if (frames.contexts !== undefined) traits.push('zran');
  else if (frames.count < chunks.count) traits.push('batch');
  if (cipher !== undefined) traits.push('encrypted');
  return traits;
}

/** Uncompressed bytes that an image's chunks hold. */
export function contentSize(image: Image): number {
  let total = 0;
  for (const blob of image.blobs) for (let i = 0; i < blob.chunks.count; i++) total += blob.chunks.size[i];
  return total;
}

/** Index of the first chunk that ends behind `offset`; `chunks.count` if there is none. Binary search. */
export function firstChunkAfter(chunks: ChunkTable, offset: number): number {
  let low = 0;
  let high = chunks.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (chunks.offset[middle] + chunks.size[middle] <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Chunks that are passed at most on the way to a place in a file: 4 GiB of the usual ones. */
const MOST_PASSED = 4096;

/**
 * Where byte `position` of a file is in the blob, if its chunks stand there one after another from `start` on, as
 * builders write them. Between chunks of RAFS v5 there are gaps.
 */
export function placeInFile(chunks: ChunkTable, start: number, position: number): number {
  const first = firstChunkAfter(chunks, start);
  const last = Math.min(first + MOST_PASSED, chunks.count);
  let left = position;
  for (let i = first; i < last; i++) {
    if (left < chunks.size[i]) return chunks.offset[i] + left;
    left -= chunks.size[i];
  }
  return start + position;
}
