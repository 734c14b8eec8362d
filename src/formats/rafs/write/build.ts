import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ErofsNode } from '../../../erofs/write-inodes.ts';
import { NymphError } from '../../../errors.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import { createThreadPool, type ThreadPool } from '../../../threads/pool.ts';
import { encodeChunks } from '../chunk-addresses.ts';
import { type BlobWriter, createBlobWriter, type WrittenBlob } from './blob-writer.ts';
import { encodeBootstrap, prefetchNodes } from './bootstrap.ts';
import type { Compressor } from './compress.ts';
import { type Duplicates, PACK_JOBS, packFiles } from './pack.ts';
import { checkSizes } from './sizes.ts';
import type { SourceEntry } from './source.ts';
import { makeTree, type SourceFile } from './tree.ts';

export interface BuildOptions {
  /** Path of the bootstrap to write. */
  bootstrap: string;
  /** Directory for the blobs, each named by its id; is made. */
  blobs: string;
  /** Bytes, a power of two from 4 KiB to 16 MiB. Default 1 MiB. */
  chunkSize?: number;
  /** Default `zstd`. */
  compressor?: Compressor;
  /** Of zstd. Default 3. */
  level?: number;
  /** Default `blake3`. */
  digester?: DigestAlgorithm;
  /**
   * Files of one chunk, smaller than half of this, share frames of at most this size: a power of two from 4 KiB to the
   * chunk size. Default 0: no batches.
   */
  batchSize?: number;
  /** Whether blobs end with tar headers, chunk digests and a table of contents. Default true. */
  toc?: boolean;
  /** What a runtime should fetch first. Default nothing. */
  prefetch?: 'all' | readonly (Buffer | string)[];
  /** Name of the blob that a file goes to; blobs are numbered as their names come up. Default: one blob for all. */
  split?: (path: Buffer, size: number) => string;
  /** Seconds since 1970 that the bootstrap names as its time. Default 0: none. */
  buildTime?: number;
  /** Threads that do the work. Without it, some are started, and ended again. */
  pool?: ThreadPool;
  /** Told now and then: bytes of content that are stored, of how many. */
  progress?(done: number, total: number): void;
  signal?: AbortSignal;
}

export interface BuiltBlob {
  /** SHA-256 of the object in hex: the blob id. */
  id: string;
  /** Bytes of the object. */
  size: number;
  /** Bytes of the flat content. */
  uncompressedSize: number;
  chunks: number;
  /** Content of `image/<id>.blob.meta` in the bootstrap layer. */
  meta: Buffer;
}

export interface BuiltImage {
  bootstrap: string;
  /** In the order of the device table. */
  blobs: BuiltBlob[];
  /** Names in the tree, the root included. */
  names: number;
  /** Chunks of files that another file had before, and their bytes. */
  duplicates: Duplicates;
  /** Bytes of all files, hard links once. */
  content: number;
}

const MAX_BLOBS = 254;

/**
 * Builds a RAFS v6 image: a bootstrap, and blobs with each distinct chunk once. The same entries give the same bytes,
 * in whatever order they come. Content is streamed: memory goes with the number of inodes and chunks.
 * @throws NymphError `usage`, `unsupported`, or what reading the entries throws; unfinished blobs are removed
 */
export async function buildRafsV6(
  entries: AsyncIterable<SourceEntry> | Iterable<SourceEntry>,
  options: BuildOptions,
): Promise<BuiltImage> {
  if (options.pool) return buildOn(options.pool, entries, options);
  const pool = createThreadPool();
  try {
    return await buildOn(pool, entries, options);
  } finally {
    await pool.close();
  }
}

async function buildOn(
  pool: ThreadPool,
  entries: AsyncIterable<SourceEntry> | Iterable<SourceEntry>,
  options: BuildOptions,
): Promise<BuiltImage> {
  const { chunkSize = 1 << 20, compressor = 'zstd', digester = 'blake3', batchSize = 0, toc = true } = options;
  checkSizes(chunkSize, batchSize);
  const level = options.level ?? 3;
  // They start while the entries are being read.
  pool.warm(...PACK_JOBS);
  const tree = await makeTree(entries);
  const prefetch = prefetchNodes(tree, options.prefetch ?? []);
  await mkdir(options.blobs, { recursive: true });
  const writers = new Map<string, BlobWriter>();

  async function writerOf(file: SourceFile): Promise<BlobWriter> {
    const name = options.split?.(file.path, file.size) ?? '';
    let writer = writers.get(name);
    if (!writer) {
      if (writers.size >= MAX_BLOBS) throw new NymphError('unsupported', `more than ${MAX_BLOBS} blobs in one image`);
      const batches = batchSize > 0;
      writer = await createBlobWriter(options.blobs, writers.size, { compressor, level, toc, batches });
      writers.set(name, writer);
    }
    return writer;
  }

  const filled = listedFirst(tree.files, prefetch).filter((file) => file.size > 0);
  const content = filled.reduce((sum, file) => sum + file.size, 0);
  const blobs: WrittenBlob[] = [];
  let duplicates: Duplicates;
  try {
    for (const { node } of tree.files)
      node.content = { kind: 'file', size: 0, ...encodeChunks(0, chunkSize, () => undefined) };
    duplicates = await packFiles(filled, {
      ...{ chunkSize, digester, compressor, level, batchSize, pool, writerOf, signal: options.signal },
      progress: (done) => options.progress?.(done, content),
      packed: ({ node, size }, chunks) => {
        node.content = { kind: 'file', size, ...encodeChunks(size, chunkSize, (k) => chunks[k]) };
      },
    });
    for (const writer of writers.values()) blobs.push(await writer.finish());
  } catch (error) {
    for (const writer of writers.values()) await writer.abandon();
    throw error;
  }

  const bootstrap = encodeBootstrap({
    ...{ tree, blobs, chunkSize, compressor, digester, prefetch, toc },
    buildTime: options.buildTime ?? 0,
  });
  await mkdir(dirname(options.bootstrap), { recursive: true });
  await writeFile(`${options.bootstrap}.tmp`, bootstrap);
  await rename(`${options.bootstrap}.tmp`, options.bootstrap);
  return {
    bootstrap: options.bootstrap,
    blobs: blobs.map(({ id, size, uncompressedSize, chunks, tail }) => ({
      id,
      size,
      uncompressedSize,
      chunks: chunks.length,
      meta: tail.meta,
    })),
    names: tree.names,
    duplicates,
    content,
  };
}

/** What is read first lies together at the front of the blob, in the order of the list: it comes in few requests. */
function listedFirst(files: readonly SourceFile[], prefetch: readonly ErofsNode[]): SourceFile[] {
  const ranks = new Map(prefetch.map((node, i) => [node, i]));
  const rankOf = ({ node }: SourceFile) => ranks.get(node) ?? ranks.size;
  return [...files].sort((a, b) => rankOf(a) - rankOf(b));
}
