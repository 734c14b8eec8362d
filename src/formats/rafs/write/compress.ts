import { promisify } from 'node:util';
import { constants, zstdCompress } from 'node:zlib';
import { compress as lz4Compress } from 'lz4-napi';
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

/**
 * Encodes a frame on a thread of libuv's pool.
 * @param level of zstd; the other codecs have none
 */
export async function compressFrame(compressor: Compressor, content: Uint8Array, level: number): Promise<Stored> {
  const bytes = await encode(compressor, content, level);
  return bytes.length < content.length ? { bytes, compressed: true } : { bytes: content, compressed: false };
}

async function encode(compressor: Compressor, content: Uint8Array, level: number): Promise<Uint8Array> {
  switch (compressor) {
    case 'none':
      return content;
    case 'lz4_block':
      return (await lz4Compress(content)).subarray(LZ4_PREFIX);
    case 'zstd':
      return zstd(content, {
        params: { [constants.ZSTD_c_compressionLevel]: level },
        // Small inputs get small tables, and the frame says its size.
        pledgedSrcSize: content.length,
      });
  }
}
