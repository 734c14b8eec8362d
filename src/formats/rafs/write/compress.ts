import { compressSync as lz4CompressSync } from 'lz4-napi';
import type { Codec } from '../../../image/image.ts';
import { zstdFrame } from './zstd.ts';

/** Codecs that builders use for their own data. */
export type Compressor = Exclude<Codec, 'gzip'>;

export interface Stored {
  /** Of what was put into the memory. */
  size: number;
  /** False where compressing did not make it smaller: it is the content itself. */
  compressed: boolean;
}

/** lz4-napi puts the decoded size in front of the block. */
const LZ4_PREFIX = 4;

/**
 * Encodes a frame. Synchronous: for work threads.
 * @param level of zstd; the other codecs have none
 * @param into gets what is stored: never more bytes than the content has
 */
export function compressFrame(compressor: Compressor, content: Uint8Array, level: number, into: Uint8Array): Stored {
  const bytes = encode(compressor, content, level);
  const compressed = bytes.length < content.length;
  into.set(compressed ? bytes : content);
  return { size: compressed ? bytes.length : content.length, compressed };
}

function encode(compressor: Compressor, content: Uint8Array, level: number): Uint8Array {
  switch (compressor) {
    case 'none':
      return content;
    case 'lz4_block':
      return lz4CompressSync(Buffer.from(content.buffer, content.byteOffset, content.length)).subarray(LZ4_PREFIX);
    case 'zstd':
      return zstdFrame(content, level);
  }
}
