import { LAYOUT_CHUNK_BASED } from '../../erofs/inode.ts';
import { type Erofs, openErofs } from '../../erofs/super-block.ts';
import { type Visit, walkTree } from '../../erofs/walk.ts';
import { corrupt } from '../../errors.ts';
import type { Blob, Image, OciDigest } from '../../image/image.ts';
import { type BlobEntry, readBlobTable } from './blob-table.ts';
import { chunkCount, eachChunk } from './chunk-addresses.ts';
import type { ChunkInfo } from './chunk-info.ts';
import { type BlobRecords, readChunkRecords } from './chunk-records.ts';
import { countInode, emptyCounts, type TreeCounts } from './counts.ts';
import { createPrefetch, type Prefetch, type PrefetchTable, readPrefetchTable } from './prefetch.ts';
import { type RafsSuperBlock, rafsVersion, readRafsSuperBlock } from './super-block.ts';
import { buildBlob } from './tables.ts';
import { translateV5 } from './v5/translate.ts';

/** A bootstrap of which the super-block and the blob table were read and checked. */
export interface Bootstrap {
  readonly format: Image['format'];
  /** Bytes of the bootstrap as its builder wrote it. */
  readonly size: number;
  /** What the kernel mounts: of RAFS v6 the bootstrap itself, of v5 what it was translated to. */
  readonly erofs: Erofs;
  readonly superBlock: Pick<RafsSuperBlock, 'flags' | 'compressor' | 'digester' | 'chunkSize'>;
  /** In the order of the device table. Where `needsChunkInfo` is set, {@link readImage} wants more than the bootstrap. */
  readonly blobs: readonly BlobEntry[];
  readonly prefetch: PrefetchTable;
  /** The chunk records of each blob, in the same order. @throws NymphError `corrupt` */
  records(): readonly BlobRecords[];
}

export interface ReadImageOptions {
  /** By blob id; for each blob with `needsChunkInfo`. */
  chunkInfo?: ReadonlyMap<string, ChunkInfo>;
  /** The object that holds a blob; `sha256:<id>` by default, which is right for images from a registry. */
  digestOf?: (blobId: string) => OciDigest;
}

export interface ReadResult {
  image: Image;
  counts: TreeCounts;
  /** Entries of the prefetch table. */
  prefetchEntries: number;
}

const CHUNK_ADDRESS_SIZE = 8;

/**
 * Reads the super-block and the blob table of a bootstrap. One in RAFS v5 is checked and translated as a whole, so that
 * the kernel can mount it.
 * @param bytes the whole bootstrap, which is not copied: it must not change while the result is used
 * @param blobId id of the blob that the bootstrap was found in, where it does not name it itself
 * @throws NymphError `corrupt`, or `unsupported` naming the feature
 */
export function openBootstrap(bytes: Uint8Array, blobId?: string): Bootstrap {
  return rafsVersion(bytes) === 5 ? openV5(bytes, blobId) : openV6(bytes, blobId);
}

function openV6(bytes: Uint8Array, blobId: string | undefined): Bootstrap {
  const erofs = openErofs(bytes);
  const superBlock = readRafsSuperBlock(erofs.view);
  const blobs = readBlobTable(erofs, superBlock, blobId);
  return {
    format: 'rafs-v6',
    size: bytes.length,
    erofs,
    superBlock,
    blobs,
    prefetch: readPrefetchTable(erofs.view, superBlock.prefetchTable),
    records: () => readChunkRecords(erofs.view, superBlock, blobs),
  };
}

function openV5(bytes: Uint8Array, blobId: string | undefined): Bootstrap {
  const { erofs, superBlock, records, prefetch } = translateV5(bytes, blobId);
  const blobs = records.map(({ blob }) => blob);
  return { format: 'rafs-v5', size: bytes.length, erofs, superBlock, blobs, prefetch, records: () => records };
}

/**
 * Checks the whole tree and turns the tables into an image. Everything that the kernel's EROFS driver will read from
 * this bootstrap was checked when this returns, and it can reach no byte of a blob that is not in the image's tables.
 *
 * Synchronous and CPU-bound (about 1 µs for an inode or chunk): for worker threads. The result is plain data, each
 * typed array with a buffer of its own.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function readImage(bootstrap: Bootstrap, options: ReadImageOptions = {}): ReadResult {
  const { erofs, superBlock } = bootstrap;
  const records = bootstrap.records();
  const digestOf = options.digestOf ?? ((id: string): OciDigest => `sha256:${id}`);
  const blobs = records.map((table) =>
    buildBlob(superBlock.chunkSize, table, options.chunkInfo?.get(table.blob.id), digestOf(table.blob.id)),
  );
  const prefetch = createPrefetch(bootstrap.prefetch, erofs.rootNid);
  const counts = readTree(bootstrap, records, prefetch);
  return {
    image: {
      format: bootstrap.format,
      chunkSize: superBlock.chunkSize,
      inodes: counts.inodes,
      blobs,
      prefetch: prefetch.all ? 'all' : prefetch.ranges(records),
      verifiable: blobs.every(hasAllDigests),
    },
    counts,
    prefetchEntries: prefetch.entries,
  };
}

function readTree(bootstrap: Bootstrap, records: readonly BlobRecords[], prefetch: Prefetch): TreeCounts {
  const { erofs, superBlock } = bootstrap;
  const { chunkSize } = superBlock;
  const counts = emptyCounts();
  let addresses = 0;
  const ignore = () => {};
  walkTree(erofs, (visit: Visit) => {
    const { inode } = visit;
    countInode(counts, visit);
    const wanted = prefetch.wants(visit);
    if (inode.layout !== LAYOUT_CHUNK_BASED || (!visit.first && !wanted)) return;
    if (visit.first) {
      // Arrays that overlap would be work without end.
      addresses += chunkCount(inode, chunkSize);
      if (addresses * CHUNK_ADDRESS_SIZE > erofs.bytes.length) {
        throw corrupt(
          'RAFS chunk address',
          'size',
          inode.offset + 8,
          'files have more chunks than the bootstrap can hold',
        );
      }
    }
    eachChunk(erofs, inode, chunkSize, records, wanted ? prefetch.add : ignore, bootstrap.format === 'rafs-v5');
  });
  return counts;
}

function hasAllDigests(blob: Blob): boolean {
  const { digest } = blob.chunks;
  const words = new Uint32Array(digest.buffer, digest.byteOffset, digest.length / 4);
  for (let start = 0; start < words.length; start += 8) {
    let any = 0;
    for (let i = start; i < start + 8; i++) any |= words[i];
    if (any === 0) return false;
  }
  return true;
}
