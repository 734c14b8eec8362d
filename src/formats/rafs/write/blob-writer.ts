import { NymphError } from '../../../errors.ts';
import { BLOCK_SIZE } from '../../../image/image.ts';
import { createBlobFile } from './blob-file.ts';
import { type BlobTail, writeBlobTail } from './blob-tail.ts';
import type { WrittenBatch, WrittenChunk } from './chunk-info.ts';
import { type Compressor, compressFrame, type Stored } from './compress.ts';

export interface BlobWriterOptions {
  compressor: Compressor;
  level: number;
  toc: boolean;
  /** 0 for no batches. */
  batchSize: number;
}

/** A finished blob. */
export interface WrittenBlob {
  /** SHA-256 of the object, hex. */
  id: string;
  /** Bytes of the object. */
  size: number;
  /** Bytes of its flat content, a multiple of {@link BLOCK_SIZE}. */
  uncompressedSize: number;
  chunks: WrittenChunk[];
  tail: BlobTail;
}

export interface BlobWriter {
  /**
   * Stores one chunk.
   * @param small whether it may share a frame with others
   */
  add(content: Uint8Array, digest: Buffer, small: boolean): Promise<WrittenChunk>;
  finish(): Promise<WrittenBlob>;
  abandon(): Promise<void>;
}

/** What waits to be compressed or written, bytes and frames: bounds the memory. */
const MAX_PENDING = 32 << 20;
const MAX_PENDING_FRAMES = 128;
const MAX_CHUNKS = 2 ** 24 - 1;
const MAX_STORED = 2 ** 40;

interface PendingFrame {
  stored: Promise<Stored>;
  size: number;
  members: WrittenChunk[];
  batch: WrittenBatch | null;
}

/**
 * Writes a blob: frames in the order of their chunks, compressed at the same time on libuv's threads.
 * @param directory for the object
 * @param blob position of the blob in the table of blobs
 */
export async function createBlobWriter(
  directory: string,
  blob: number,
  options: BlobWriterOptions,
): Promise<BlobWriter> {
  const { compressor, level, batchSize } = options;
  const file = await createBlobFile(directory);
  const chunks: WrittenChunk[] = [];
  const batches: WrittenBatch[] = [];
  const pending: PendingFrame[] = [];
  let pendingSize = 0;
  let end = 0;
  let batch: { contents: Uint8Array[]; members: WrittenChunk[]; size: number } | null = null;

  function push(content: Uint8Array, members: WrittenChunk[], context: WrittenBatch | null): void {
    const stored = compressFrame(compressor, content, level);
    // Awaited in its turn; until then a failure must not count as unhandled.
    stored.catch(() => {});
    pending.push({ stored, size: content.length, members, batch: context });
    pendingSize += content.length;
  }

  function closeBatch(): void {
    if (!batch) return;
    const context = { storedSize: 0, size: batch.size };
    batches.push(context);
    push(Buffer.concat(batch.contents), batch.members, context);
    batch = null;
  }

  async function drain(maxSize: number, maxFrames: number): Promise<void> {
    while (pendingSize > maxSize || pending.length > maxFrames) {
      const frame = pending.shift()!;
      pendingSize -= frame.size;
      const { bytes, compressed } = await frame.stored;
      for (const chunk of frame.members) {
        chunk.storedOffset = file.size;
        chunk.storedSize = frame.batch ? 0 : bytes.length;
        chunk.compressed = compressed;
      }
      if (frame.batch) frame.batch.storedSize = bytes.length;
      await file.append(bytes);
    }
  }

  return {
    async add(content, digest, small) {
      if (chunks.length >= MAX_CHUNKS || file.size + pendingSize > MAX_STORED)
        throw new NymphError('unsupported', `a blob of more than ${MAX_CHUNKS} chunks or 1 TiB`, {
          hint: 'Split the files into more blobs.',
        });
      const chunk: WrittenChunk = {
        digest,
        blob,
        index: chunks.length,
        offset: end,
        size: content.length,
        storedOffset: 0,
        storedSize: 0,
        compressed: false,
        batch: -1,
        batchOffset: 0,
      };
      chunks.push(chunk);
      end = Math.ceil((end + content.length) / BLOCK_SIZE) * BLOCK_SIZE;
      if (batch && (!small || batch.size + content.length > batchSize)) closeBatch();
      if (small) {
        batch ??= { contents: [], members: [], size: 0 };
        chunk.batch = batches.length;
        chunk.batchOffset = batch.size;
        batch.contents.push(content);
        batch.members.push(chunk);
        batch.size += content.length;
      } else push(content, [chunk], null);
      await drain(MAX_PENDING, MAX_PENDING_FRAMES);
      return chunk;
    },
    async finish() {
      closeBatch();
      await drain(0, 0);
      const tail = await writeBlobTail(file, chunks, batchSize > 0 ? batches : null, options);
      const { size } = file;
      return { id: await file.finish(), size, uncompressedSize: end, chunks, tail };
    },
    abandon: () => file.abandon(),
  };
}
