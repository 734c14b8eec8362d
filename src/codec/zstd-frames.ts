import { corrupt } from '../errors.ts';
import { type ByteReader, createByteReader } from './byte-reader.ts';

const STRUCTURE = 'zstd stream';
const FRAME_MAGIC = 0xfd2fb528;
/** Magic numbers of skippable frames differ in their lowest four bits. */
const SKIPPABLE_MAGIC = 0x184d2a50;
const DICTIONARY_ID_SIZE = [0, 1, 2, 4];
const CONTENT_SIZE_SIZE = [0, 2, 4, 8];
const BLOCK_RLE = 1;
const BLOCK_RESERVED = 3;

/**
 * The frames of a zstd stream (RFC 8878 §3.1) in pieces that never reach over the end of a frame, skippable frames left
 * out. Node's decoder drops what stands behind a frame's end in the same write, and streams of several frames are common:
 * pzstd and the zstd:chunked layers of images.
 * @throws NymphError `corrupt` where no frame starts, or one is cut short
 */
export async function* splitZstdFrames(stream: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  const reader = createByteReader(stream);
  for (;;) {
    const at = reader.position;
    const magic = await reader.take(4);
    if (magic.length === 0) return;
    if (magic.length < 4) throw corrupt(STRUCTURE, 'magic', at, 'is cut short');
    const number = magic.readUInt32LE();
    if ((number & ~0xf) >>> 0 === SKIPPABLE_MAGIC) {
      const size = (await whole(reader, 4)).readUInt32LE();
      for await (const _ of pieces(reader, size));
    } else if (number === FRAME_MAGIC) {
      yield magic;
      yield* frame(reader);
    } else throw corrupt(STRUCTURE, 'magic', at, `is 0x${number.toString(16)}`);
  }
}

async function* frame(reader: ByteReader): AsyncGenerator<Uint8Array> {
  const descriptor = await whole(reader, 1);
  yield descriptor;
  const [flags] = descriptor;
  const single = (flags & 0x20) !== 0;
  const sizeSize = single && flags >>> 6 === 0 ? 1 : CONTENT_SIZE_SIZE[flags >>> 6];
  const rest = (single ? 0 : 1) + DICTIONARY_ID_SIZE[flags & 3] + sizeSize;
  if (rest > 0) yield await whole(reader, rest);
  for (let last = false; !last; ) {
    const at = reader.position;
    const header = await whole(reader, 3);
    yield header;
    const word = header.readUIntLE(0, 3);
    last = (word & 1) === 1;
    const type = (word >>> 1) & 3;
    if (type === BLOCK_RESERVED) throw corrupt(STRUCTURE, 'block type', at, 'is reserved');
    yield* pieces(reader, type === BLOCK_RLE ? 1 : word >>> 3);
  }
  if ((flags & 4) !== 0) yield await whole(reader, 4);
}

async function whole(reader: ByteReader, length: number): Promise<Buffer> {
  const at = reader.position;
  const bytes = await reader.take(length);
  if (bytes.length < length) throw corrupt(STRUCTURE, 'frame', at, 'is cut short');
  return bytes;
}

async function* pieces(reader: ByteReader, length: number): AsyncGenerator<Uint8Array> {
  for (let missing = length; missing > 0; ) {
    const piece = await reader.some(missing);
    if (!piece) throw corrupt(STRUCTURE, 'frame', reader.position, 'is cut short');
    missing -= piece.length;
    yield piece;
  }
}
