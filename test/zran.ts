/** Makes what ZRAN images need out of any gzip stream: inflate contexts, as RAFS builders make them. */
import { hash } from 'node:crypto';
import { digestOf } from '../src/codec/digest.ts';
import { BLOCK_SIZE, type Blob, CODECS, type OciDigest } from '../src/image/image.ts';
import { type BlockStart, scanGzip } from './gzip.ts';

/** A piece of the decoded stream that becomes a chunk. */
export interface Piece {
  offset: number;
  size: number;
}

export interface Context {
  start: Pick<BlockStart, 'offset' | 'bits' | 'byte' | 'decoded'>;
  /** Bytes of the stream from the start on, and what they decode to. */
  size: number;
  decodedSize: number;
  dictionary: Buffer;
}

export interface ZranStream {
  gzip: Buffer;
  content: Buffer;
  pieces: Piece[];
  contexts: Context[];
  /** For each piece the context that holds it. */
  contextOf: number[];
}

/**
 * @param pieces ascending, without overlap. Each lies wholly in one context; so contexts share the block where one ends
 *   and the next begins
 * @param distance stored bytes from which on a new context begins
 */
export function makeContexts(gzip: Buffer, pieces: Piece[], distance: number): ZranStream {
  const { blocks, content } = scanGzip(gzip);
  const contexts: Context[] = [];
  let before = 0;
  let behind = 0;
  const contextOf = pieces.map(({ offset, size }) => {
    while (before + 1 < blocks.length && blocks[before + 1].decoded <= offset) before++;
    const start = blocks[before];
    let context = contexts.at(-1);
    if (context === undefined || start.offset - context.start.offset >= distance) {
      const window = Math.min(start.inMember, 32 << 10);
      const dictionary = content.subarray(start.decoded - window, start.decoded);
      context = { start, size: 0, decodedSize: 0, dictionary };
      contexts.push(context);
    }
    while (behind < blocks.length && blocks[behind].decoded < offset + size) behind++;
    context.size = (blocks[behind]?.offset ?? gzip.length) - context.start.offset;
    context.decodedSize = offset + size - context.start.decoded;
    return contexts.length - 1;
  });
  return { gzip, content, pieces, contexts, contextOf };
}

/** The blob that an image over this stream has: each piece at the next multiple of a block. */
export function blobOf(stream: ZranStream): Blob {
  const { gzip, content, pieces, contexts, contextOf } = stream;
  const count = pieces.length;
  const offset = flatOffsets(pieces);
  const digest = new Uint8Array(count * 32);
  for (const [i, piece] of pieces.entries())
    digest.set(digestOf('sha256', content.subarray(piece.offset, piece.offset + piece.size)), i * 32);
  const dictionaries = Uint8Array.from(Buffer.concat(contexts.map(({ dictionary }) => dictionary)));
  const dictionaryOffset = new Float64Array(contexts.length);
  const dictionaryDigest = new Uint8Array(contexts.length * 32);
  let end = 0;
  for (const [i, { dictionary }] of contexts.entries()) {
    dictionaryOffset[i] = end;
    dictionaryDigest.set(digestOf('blake3', dictionary), i * 32);
    end += dictionary.length;
  }
  const id = hash('sha256', gzip);
  return {
    id,
    digest: `sha256:${id}` as OciDigest,
    size: offset[count],
    storedSize: gzip.length,
    digestAlgorithm: 'sha256',
    chunks: {
      count,
      offset: offset.slice(0, count),
      size: Uint32Array.from(pieces, ({ size }) => size),
      digest,
      frame: Uint32Array.from(contextOf),
      frameOffset: Uint32Array.from(pieces, (piece, i) => piece.offset - contexts[contextOf[i]].start.decoded),
    },
    frames: {
      count: contexts.length,
      offset: Float64Array.from(contexts, ({ start }) => start.offset),
      size: Uint32Array.from(contexts, ({ size }) => size),
      decodedSize: Uint32Array.from(contexts, ({ decodedSize }) => decodedSize),
      codec: new Uint8Array(contexts.length).fill(CODECS.indexOf('gzip')),
      contexts: {
        bits: Uint8Array.from(contexts, ({ start }) => start.bits),
        value: Uint8Array.from(contexts, ({ start }) => start.byte >> (8 - start.bits)),
        dictionaryOffset,
        dictionarySize: Uint32Array.from(contexts, ({ dictionary }) => dictionary.length),
        dictionaryDigest,
      },
    },
    dictionaries,
  };
}

/** Where the pieces are in the blob, and its size. */
export function flatOffsets(pieces: Piece[]): Float64Array {
  const offsets = new Float64Array(pieces.length + 1);
  for (const [i, { size }] of pieces.entries()) offsets[i + 1] = offsets[i] + Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
  return offsets;
}

/** What the blob's flat file holds. */
export function flatContent(stream: ZranStream): Buffer {
  const offsets = flatOffsets(stream.pieces);
  const flat = Buffer.alloc(offsets[stream.pieces.length]);
  for (const [i, { offset, size }] of stream.pieces.entries())
    stream.content.copy(flat, offsets[i], offset, offset + size);
  return flat;
}
