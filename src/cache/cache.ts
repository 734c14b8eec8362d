import type { FileExtent, PieceChecksum } from '../image/files.ts';
import type {
  Blob,
  BlobTrait,
  ChunkDigest,
  ChunkTable,
  Cipher,
  FrameTable,
  Guarantee,
  OciDigest,
  StreamCodec,
  WholeDigest,
} from '../image/image.ts';
import type { ReadyMap } from './ready-map.ts';

/**
 * What nymph keeps on disk, and the promises about it.
 *
 *   <root>/lock                     held (flock) by the one process that may write
 *   <root>/catalogue.db             SQLite: blobs, images, mounts, sizes, last use
 *   <root>/reserve                  space for a start on a full disk
 *   <root>/blobs/<key>/data         sparse file in the blob's own address space
 *   <root>/blobs/<key>/ready        readiness bits, with what is known to be synced
 *   <root>/blobs/<key>/chunks       the ledger: chunk and frame tables of all images that use the blob
 *   <root>/blobs/<key>/dictionaries what frames in the midst of a gzip stream are inflated with; with such frames only
 *   <root>/blobs/<key>/standing     where chunks have no digests: whether the whole was checked, and what came out
 *   <root>/images/<hex>/bootstrap   complete local bootstrap, <hex> = the manifest's digest
 *   <root>/images/<hex>/image.json  what the catalogue says of the image, for the case that the catalogue is damaged
 *   <root>/traces/<hex>             what was read first of an image, whether it is here or not
 *   <root>/tmp, <root>/trash        what is being made, and what is being removed: emptied at the next start
 *
 * Promises:
 *  - Data before bit: a ready bit, in memory or on disk, is never set before its bytes are in `data`.
 *  - Bits that were not followed by a sync count after a crash of the process, but not after a crash of the machine
 *    (another boot id): then their chunks are verified again, in the background of the first open.
 *  - Two images share a blob only as far as their tables agree chunk by chunk (place, size, digest, frame). If they
 *    contradict each other, the second gets an entry of its own (`<id>~2`): no image can make another serve its bytes.
 *  - Where chunks have no digests, what has come from one place is shared with images from another only once the whole
 *    is found right; and bits that no sync covered do not count after a crash of the machine.
 *  - Nothing that is open, or of an image that is mounted, is evicted. The quota counts our files only.
 */
export interface Cache {
  readonly root: string;

  /**
   * Opens the entry for a blob, made if need be, and adds the blob's tables to its ledger. Each open needs one
   * `release`. Entries that are open already are shared. Chunks whose bits cannot be trusted are verified in the
   * background. Rejects with code `cache` if the entry cannot be made or its ledger not be written (a full disk).
   * @param data all bytes of the blob, verified: a new entry takes the file over
   */
  open(blob: Blob, data?: Scratch): Promise<CachedBlob>;
  /** A file for the bytes of a blob whose tables are not known yet. Rejects with code `cache`. */
  scratch(): Promise<Scratch>;
  /** Opens an entry that exists, by key (a daemon that starts again). `undefined` if it is gone or damaged. */
  reopen(key: string): Promise<CachedBlob | undefined>;
  /** Keys of other entries that were made for the same stored object: mostly none. */
  others(blob: CachedBlob): string[];
  /**
   * How much of a blob is here, by key. It changes nothing: not the last use, not a file. `undefined` if the entry is
   * gone or damaged.
   */
  peek(key: string): Promise<Readiness | undefined>;
  /** The last release closes the descriptor: no thread may read or write through it any more. */
  release(blob: CachedBlob): Promise<void>;
  /** Says that bits of the map were set or cleared: persists them soon, in order, and counts bytes for the quota. */
  changed(blob: CachedBlob): void;
  /**
   * Keeps what a check of a whole file has found, where chunks have no digests. It counts at once; on disk `right` is kept
   * after the data is synced. With `wrong` no block is ready any more and the data goes from the disk: nothing may write
   * to the file meanwhile.
   */
  settle(blob: CachedBlob, standing: Standing): Promise<void>;
  /** Says that the file of the blob took no data: a full disk, most likely. */
  refused(blob: CachedBlob, reason: string): void;

  /** Keeps an image's bootstrap and what it stands for; returns the bootstrap's path. Atomic, idempotent. */
  putImage(image: StoredImage, bootstrap: Uint8Array): Promise<string>;
  image(digest: OciDigest): StoredImage | undefined;
  images(): StoredImage[];
  bootstrapPath(digest: OciDigest): string;
  /** Keeps what was read first of an image (`image/trace.ts`), beyond its removal. Rejects with code `cache` if it cannot. */
  putTrace(digest: OciDigest, trace: string): Promise<void>;
  /** What was kept; undefined without. */
  trace(digest: OciDigest): Promise<string | undefined>;
  /** Rejects with code `busy` while the image is mounted; an image that is not there is removed already. */
  removeImage(digest: OciDigest): Promise<void>;
  /** Keeps the image and its blobs from being evicted, or no longer. Rejects with code `not-found` if it is not here. */
  pin(digest: OciDigest, pinned: boolean): Promise<void>;

  /**
   * A range of `count` inode numbers from {@link FIRST_RANGE} on, the same each time, never used for another name.
   * @returns the first number
   */
  inodeRange(name: string, count: number): number;

  /** Files of models that the kernel has open, on the FUSE connection that is served. */
  readonly openFiles: OpenFiles;

  mounts(): StoredMount[];
  putMount(mount: StoredMount): void;
  removeMount(directory: string): void;

  usage(): CacheUsage;
  /**
   * Evicts blobs that nobody has open, longest unused first, until at most `target` bytes are used, then every image
   * that has none of its blobs left and is not mounted. What is pinned, or what others still count on (`CacheOptions.needed`),
   * stays, unless `force`. Returns what was removed.
   *
   * Also done without being asked, down to the low-water mark, when `changed` finds more than the quota in use: then the
   * blobs that others count on go too, if nothing else is left. Their images stay, so that they can be mounted.
   */
  prune(target: number, force?: boolean): Promise<PruneResult>;
  /** Syncs everything, closes all entries (released or not), gives up the lock. */
  close(): Promise<void>;
}

export interface Scratch {
  readonly path: string;
  /** Open for writing. */
  readonly fd: number;
  /** Ends the use of it; the file goes, unless an entry has taken it over. */
  discard(): Promise<void>;
}

/** Inode numbers below are those of blobs, and of the file system itself. */
export const FIRST_RANGE = 2 ** 47;

export interface CachedBlob {
  /** Name of the entry: the blob id, or `<id>~N` where images contradict each other. */
  readonly key: string;
  readonly id: string;
  /** Inode number in our FUSE file system: from 2^20 on, below {@link FIRST_RANGE}, never used again for another blob. */
  readonly ino: number;
  readonly digest: OciDigest;
  readonly digestAlgorithm: ChunkDigest;
  /** Bytes of the flat file. */
  readonly size: number;
  readonly dataPath: string;
  /** Read-write descriptor of `data`. */
  readonly fd: number;
  readonly ready: ReadyMap;
  /** The ledger. Replaced, never changed in place, when another image adds chunks: do not keep indexes across awaits. */
  readonly chunks: ChunkTable;
  readonly frames: FrameTable;
  /** The key of the frames, where they are encrypted. */
  readonly cipher?: Cipher;
  /** Descriptor of `dictionaries`, where frames have contexts. */
  readonly dictionaries?: number;
  /** As in Blob, where chunks have no digests. */
  readonly whole?: WholeDigest;
  /** What is known of the whole; undefined where chunks have digests. Changes by `settle`, and when bits are cleared. */
  readonly standing?: Standing;
}

/** `pending`: not checked, or with nothing to compare it with. Who reads a `wrong` one gets errors. */
export type Standing = 'pending' | 'right' | 'wrong';

/** Uncompressed bytes of a blob's chunks in all, and of those that are here. */
export interface Readiness {
  size: number;
  ready: number;
  /** Where chunks have no digests. */
  standing?: Standing;
}

/** What the catalogue knows of an image; JSON-safe. */
export interface StoredImage {
  /** Digest of the image manifest (after platform selection); with a subset, of both. */
  digest: OciDigest;
  /** Kinds and patterns of the files that it has, where those are not all of the artifact. */
  subset?: readonly string[];
  /** The reference by which it was last opened. */
  reference: string;
  format: string;
  inodes: number;
  chunkSize: number;
  /** Cache keys and stored sizes, in the order of the device table. */
  blobs: {
    key: string;
    id: string;
    digest: OciDigest;
    size: number;
    storedSize: number;
    /** Earlier versions did not keep them. */
    traits?: BlobTrait[];
    /** `chunk` where it is absent. */
    guarantee?: Guarantee;
    /** As in Blob. */
    location?: string;
    unpacked?: StreamCodec;
    /** A file that it holds, of files as they stand. */
    path?: string;
    /** Where its files lie, if it is a tar of files. */
    files?: readonly FileExtent[];
    /** A tar: what its headers said when no digest vouched for them (`formats/tar/index-digest.ts`). */
    index?: string;
    /** Checksums of pieces of it. */
    pieces?: readonly PieceChecksum[];
  }[];
  /** As in Image. */
  prefetch: { blob: number; offset: number; length: number }[] | 'all';
  verifiable: boolean;
  /** SHA-256 of the bootstrap; earlier versions did not keep it. */
  bootstrapDigest?: OciDigest;
  /** It is not evicted. Kept by the cache: who puts the image anew need not know. */
  pinned?: boolean;
}

/** How an image is made visible: by the kernel's EROFS driver, or as a FUSE tree. */
export type MountKind = 'erofs' | 'fuse';

export interface StoredMount {
  directory: string;
  reference: string;
  /** Digest of the image manifest. */
  digest: OciDigest;
  kind: MountKind;
  /** Of a FUSE tree: the first of its inode numbers, and why it is not EROFS where that was not asked for. */
  tree?: number;
  reason?: string;
  /** Of a FUSE tree: it is on the second connection, which is for trees of images. */
  second?: boolean;
  /** Unix time, ms. */
  since: number;
  /** It is being made: nobody was told of it yet. */
  pending?: boolean;
  /** Device nodes and set-uid programs work: it is the root of containers. */
  allowDevices?: boolean;
  /** Files are read only after they were checked as a whole. */
  strict?: boolean;
  /** The kernel's name for the super block, where it is known. */
  superBlock?: string;
  /** The mount is gone, and the super block is still in use. */
  unmounted?: boolean;
}

/** An open file of a FUSE tree. `backing`: the kernel's number of the file that it reads in our place, 0 for none. */
export interface StoredOpenFile {
  handle: number;
  ino: number;
  backing: number;
}

export interface OpenFiles {
  list(): StoredOpenFile[];
  put(file: StoredOpenFile): void;
  remove(handle: number): void;
}

export interface CacheUsage {
  /** Bytes on disk of all our files. */
  bytes: number;
  quota: number | undefined;
  blobs: number;
  openBlobs: number;
  images: number;
  /** False from a write that failed (a full disk) until one succeeds: reads go on, the cache does not grow. */
  writable: boolean;
  /** What was evicted since the start, because of the quota or because somebody asked. */
  evicted: { blobs: number; images: number; bytes: number };
}

export interface PruneResult {
  freed: number;
  blobs: string[];
  images: string[];
}
