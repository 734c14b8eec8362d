import { type ByteReader, createByteReader } from '../../codec/byte-reader.ts';
import { corrupt } from '../../errors.ts';
import type { TarBytes } from './read.ts';

/** A tar that comes as a stream. */
export interface TarStream extends TarBytes, ByteReader {
  /** Passes the next bytes on, as they come. @throws NymphError `corrupt` if there are fewer */
  each(length: number, use: (piece: Uint8Array) => Promise<void> | void): Promise<void>;
}

export function streamedTar(stream: AsyncIterable<Uint8Array>): TarStream {
  const reader = createByteReader(stream);

  async function each(length: number, use: (piece: Uint8Array) => Promise<void> | void): Promise<void> {
    for (let missing = length; missing > 0; ) {
      const piece = await reader.some(missing);
      if (!piece) throw corrupt('tar', 'data', reader.position, 'is cut short');
      missing -= piece.length;
      await use(piece);
    }
  }

  return {
    get position() {
      return reader.position;
    },
    some: reader.some,
    take: reader.take,
    skip: (length) => each(length, () => {}),
    each,
  };
}

/** Bytes that a read of a place that can be read anywhere takes: the first time, and as far as headers lie close together. */
const FIRST_WINDOW = 8 << 10;
const MOST_WINDOW = 4 << 20;
/** Headers this close together are not worth a request each: over 20 ms and 2 Gbit/s, so much comes in a fifth of it. */
const CLOSE = 1 << 20;

/**
 * A tar that can be read anywhere, of which only what is asked for is read: headers. Where they lie close together, larger
 * and larger pieces are read.
 * @param readAt reads as many bytes as there are of a range @param size of the tar
 */
export function seekableTar(readAt: (offset: number, length: number) => Promise<Buffer>, size: number): TarBytes {
  let position = 0;
  let window: Buffer = Buffer.alloc(0);
  let windowAt = 0;
  let room = FIRST_WINDOW;

  return {
    get position() {
      return position;
    },
    async take(length) {
      if (position < windowAt || position + length > windowAt + window.length) {
        const gap = position - (windowAt + window.length);
        if (window.length > 0) room = gap <= CLOSE ? Math.min(room * 4, MOST_WINDOW) : FIRST_WINDOW;
        windowAt = position;
        window = await readAt(position, Math.min(Math.max(length, room), Math.max(0, size - position)));
      }
      const bytes = window.subarray(position - windowAt, position - windowAt + length);
      position += bytes.length;
      return bytes;
    },
    async skip(length) {
      if (position + length > size) throw corrupt('tar', 'data', position, 'is cut short');
      position += length;
    },
  };
}
