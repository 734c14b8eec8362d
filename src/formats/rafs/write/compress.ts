import { promisify } from 'node:util';
import { constants, zstdCompress, zstdCompressSync } from 'node:zlib';
import { compress as lz4Compress, compressSync as lz4CompressSync } from 'lz4-napi';
import type { Codec } from '../../../image/image.ts';

/** Codecs that builders use for their own data. */
export type Compressor = Exclude<Codec, 'gzip'>;

export interface Stored {
  bytes: Uint8Array;
  /** False where compressing did not make it smaller: `bytes` are the content itself. */
  compressed: boolean;
}

const zstd = promisify(zstdCompress);
/** lz4-napi puts the decoded size in front of the block. */
const LZ4_PREFIX = 4;

/** Up to this size going to another thread costs more (60 µs and more) than compressing (20 µs). */
const SYNC_MAX = 16 << 10;

/**
 * Encodes a frame, larger ones on a thread of libuv's pool.
 * @param level of zstd; the other codecs have none
 */
export async function compressFrame(compressor: Compressor, content: Uint8Array, level: number): Promise<Stored> {
  const bytes = await encode(compressor, content, level);
  return bytes.length < content.length ? { bytes, compressed: true } : { bytes: content, compressed: false };
}

function encode(compressor: Compressor, content: Uint8Array, level: number): Promise<Uint8Array> | Uint8Array {
  const small = content.length <= SYNC_MAX;
  switch (compressor) {
    case 'none':
      return content;
    case 'lz4_block':
      return small ? lz4CompressSync(asBuffer(content)).subarray(LZ4_PREFIX) : encodeLz4(content);
    case 'zstd': {
      // Small inputs get small tables, and the frame says its size.
      const options = {
        params: { [constants.ZSTD_c_compressionLevel]: level },
        pledgedSrcSize: content.length,
      };
      return small ? zstdCompressSync(content, options) : zstd(content, options);
    }
  }
}

async function encodeLz4(content: Uint8Array): Promise<Uint8Array> {
  return (await lz4Compress(content)).subarray(LZ4_PREFIX);
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
}
