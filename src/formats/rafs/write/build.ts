import { mkdir, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { DIGEST_SIZE, digestOf } from '../../../codec/digest.ts';
import { NymphError } from '../../../errors.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import { encodeChunks } from '../chunk-addresses.ts';
import { type BlobWriter, createBlobWriter, type WrittenBlob } from './blob-writer.ts';
import { encodeBootstrap } from './bootstrap.ts';
import type { WrittenChunk } from './chunk-info.ts';
import type { Compressor } from './compress.ts';
import { readChunks } from './read-ahead.ts';
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
  duplicates: { chunks: number; bytes: number };
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
  const { chunkSize = 1 << 20, compressor = 'zstd', digester = 'blake3', batchSize = 0, toc = true } = options;
  checkSizes(chunkSize, batchSize);
  const tree = await makeTree(entries);
  await mkdir(options.blobs, { recursive: true });
  const writers = new Map<string, BlobWriter>();
  const keepDigest = createDigestStore();
  const known = new Map<string, WrittenChunk>();
  const duplicates = { chunks: 0, bytes: 0 };

  async function writerOf(file: SourceFile): Promise<BlobWriter> {
    const name = options.split?.(file.path, file.size) ?? '';
    let writer = writers.get(name);
    if (!writer) {
      if (writers.size >= MAX_BLOBS) throw new NymphError('unsupported', `more than ${MAX_BLOBS} blobs in one image`);
      writer = await createBlobWriter(options.blobs, writers.size, {
        compressor,
        level: options.level ?? 3,
        toc,
        batchSize,
      });
      writers.set(name, writer);
    }
    return writer;
  }

  const blobs: WrittenBlob[] = [];
  try {
    let chunks: WrittenChunk[] = [];
    for (const { node } of tree.files) node.content = { kind: 'file', size: 0, ...encodeChunks([], 0, chunkSize) };
    const filled = tree.files.filter((file) => file.size > 0);
    for await (const { file, content, last } of readChunks(filled, chunkSize)) {
      if (content.length !== Math.min(chunkSize, file.size - chunks.length * chunkSize))
        throw new NymphError('source', `${file.path} gave ${content.length} bytes too few or too many`);
      const digest = keepDigest(digestOf(digester, content));
      const key = `${digest.toString('latin1')}${content.length}`;
      let chunk = known.get(key);
      if (chunk) {
        duplicates.chunks++;
        duplicates.bytes += content.length;
      } else {
        const small = file.size <= chunkSize && content.length * 2 < batchSize;
        chunk = await (await writerOf(file)).add(content, digest, small);
        known.set(key, chunk);
      }
      chunks.push(chunk);
      if (!last) continue;
      file.node.content = { kind: 'file', size: file.size, ...encodeChunks(chunks, file.size, chunkSize) };
      chunks = [];
    }
    for (const writer of writers.values()) blobs.push(await writer.finish());
  } catch (error) {
    for (const writer of writers.values()) await writer.abandon();
    throw error;
  }

  const prefetch = options.prefetch ?? [];
  const bootstrap = encodeBootstrap({ tree, blobs, chunkSize, compressor, digester, prefetch, toc });
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
  };
}

/** Copies digests into slabs of their own: in Node's buffer pool each would keep 64 KiB of strangers alive. */
function createDigestStore(): (digest: Uint8Array) => Buffer {
  let slab = Buffer.alloc(0);
  return (digest) => {
    if (slab.length === 0) slab = Buffer.alloc(DIGEST_SIZE * 4096);
    const kept = slab.subarray(0, DIGEST_SIZE);
    slab = slab.subarray(DIGEST_SIZE);
    kept.set(digest);
    return kept;
  };
}

function checkSizes(chunkSize: number, batchSize: number): void {
  const isPower = (value: number): boolean => Number.isInteger(Math.log2(value));
  if (!isPower(chunkSize) || chunkSize < 0x1000 || chunkSize > 0x1000000)
    throw new NymphError('usage', `a chunk size of ${chunkSize} bytes: must be a power of two from 4 KiB to 16 MiB`);
  if (batchSize !== 0 && (!isPower(batchSize) || batchSize < 0x1000 || batchSize > chunkSize))
    throw new NymphError(
      'usage',
      `a batch size of ${batchSize} bytes: must be a power of two from 4 KiB to the chunk size`,
    );
}
