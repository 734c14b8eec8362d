import { NymphError } from '../../../errors.ts';
import { BLOCK_SIZE } from '../../../image/image.ts';
import { createBlobFile } from './blob-file.ts';
import { type BlobTail, writeBlobTail } from './blob-tail.ts';
import type { WrittenBatch, WrittenChunk } from './chunk-info.ts';
import type { Compressor } from './compress.ts';

export interface BlobWriterOptions {
  compressor: Compressor;
  level: number;
  toc: boolean;
  /** Whether chunks may share frames. */
  batches: boolean;
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

/** A frame that is about to be stored. */
export interface FrameToWrite {
  members: readonly WrittenChunk[];
  size: number;
  compressed: boolean;
}

export interface BlobWriter {
  /** Takes a chunk up: from now on its place in the flat content is known. */
  claim(size: number, digest: Buffer): WrittenChunk;
  /** Makes chunks that follow each other members of one batch: they will share a frame. */
  join(members: readonly WrittenChunk[]): void;
  /** Stores frames behind each other, in the order in which their chunks were claimed. */
  append(frames: readonly FrameToWrite[], bytes: Uint8Array): Promise<void>;
  finish(): Promise<WrittenBlob>;
  /** Removes what was written. */
  abandon(): Promise<void>;
}

const MAX_CHUNKS = 2 ** 24 - 1;
const MAX_STORED = 2 ** 40;

/**
 * Writes the object of a blob.
 * @param directory for the object
 * @param blob position of the blob in the table of blobs
 */
export async function createBlobWriter(
  directory: string,
  blob: number,
  options: BlobWriterOptions,
): Promise<BlobWriter> {
  const file = await createBlobFile(directory);
  const chunks: WrittenChunk[] = [];
  const batches: WrittenBatch[] = [];
  let end = 0;

  return {
    claim(size, digest) {
      if (chunks.length >= MAX_CHUNKS) throw tooLarge();
      const chunk: WrittenChunk = {
        digest,
        blob,
        index: chunks.length,
        offset: end,
        size,
        storedOffset: 0,
        storedSize: 0,
        compressed: false,
        batch: -1,
        batchOffset: 0,
      };
      chunks.push(chunk);
      end = Math.ceil((end + size) / BLOCK_SIZE) * BLOCK_SIZE;
      return chunk;
    },
    join(members) {
      let size = 0;
      for (const chunk of members) {
        chunk.batch = batches.length;
        chunk.batchOffset = size;
        size += chunk.size;
      }
      batches.push({ storedSize: 0, size });
    },
    async append(frames, bytes) {
      if (file.size + bytes.length > MAX_STORED) throw tooLarge();
      let at = file.size;
      for (const { members, size, compressed } of frames) {
        for (const chunk of members) {
          chunk.storedOffset = at;
          // Of a batch only its context knows the size.
          chunk.storedSize = chunk.batch < 0 ? size : 0;
          chunk.compressed = compressed;
        }
        if (members[0].batch >= 0) batches[members[0].batch].storedSize = size;
        at += size;
      }
      await file.append(bytes);
    },
    async finish() {
      const tail = await writeBlobTail(file, chunks, options.batches ? batches : null, options);
      const { size } = file;
      return { id: await file.finish(), size, uncompressedSize: end, chunks, tail };
    },
    abandon: () => file.abandon(),
  };
}

function tooLarge(): NymphError {
  return new NymphError('unsupported', `a blob of more than ${MAX_CHUNKS} chunks or 1 TiB`, {
    hint: 'Take larger chunks, or split the files into more blobs.',
  });
}
