import { digestOf } from '../../codec/digest.ts';
import { decodeFrame } from '../../codec/frame.ts';
import { readU64 } from '../../erofs/fields.ts';
import { corrupt, NymphError } from '../../errors.ts';
import type { Codec } from '../../image/image.ts';
import { readTarHeader, TAR_BLOCK_SIZE } from './tar-header.ts';

/** A part of a blob's object. Offsets and sizes in bytes, inside the object. */
export interface BlobMember {
  name: string;
  codec: Codec;
  offset: number;
  compressedSize: number;
  uncompressedSize: number;
  /** SHA-256 of the decoded content; absent where the object has no ToC. */
  sha256?: Uint8Array;
}

/** What the end of a blob's object tells about its parts. */
export interface BlobTrailer {
  /** The bootstrap inside the blob. */
  bootstrap?: BlobMember;
  /** The chunk information array and its header. */
  chunkInfo?: BlobMember;
  chunkInfoHeader?: BlobMember;
}

/** The ToC as the blob table of a bootstrap knows it. */
export interface KnownToc {
  /** Bytes, tar header included. */
  size: number;
  sha256: Uint8Array;
}

/** Bytes at the end of an object that are enough to find its parts. */
export const TAIL_SIZE = 4096;

const STRUCTURE = 'blob ToC';
const ENTRY_SIZE = 128;
const TOC_NAME = 'rafs.blob.toc';
const BOOTSTRAP_NAME = 'image.boot';
const NAME_SIZE = 16;
const CODEC_OF_FLAG: ReadonlyMap<number, Codec> = new Map([
  [0x1, 'none'],
  [0x2, 'zstd'],
  [0x4, 'lz4_block'],
]);

/**
 * Finds the parts of a blob from the last bytes of its object. Nydus blobs are tars read from their end: each header
 * stands behind its data. The last member is the ToC, or the raw bootstrap where the builder made no ToC.
 * @param tail the last {@link TAIL_SIZE} bytes of the object, or all of a smaller one
 * @param objectSize bytes
 * @param known checked if given
 * @throws NymphError `corrupt`, or `not-found` if the object does not end with either
 */
export function findBootstrapInBlob(tail: Uint8Array, objectSize: number, known?: KnownToc): BlobTrailer {
  const end = tail.length - TAR_BLOCK_SIZE;
  const header = readTarHeader(tail, end);
  if (header?.name === TOC_NAME) {
    if (known !== undefined) verifyToc(tail, header.size, known);
    return readToc(tail, header.size, objectSize - tail.length);
  }
  if (header?.name === BOOTSTRAP_NAME) {
    const offset = objectSize - TAR_BLOCK_SIZE - header.size;
    if (offset < 0) throw corrupt('blob', 'size', objectSize, `a bootstrap of ${header.size} bytes does not fit`);
    const { size } = header;
    return { bootstrap: { name: BOOTSTRAP_NAME, codec: 'none', offset, compressedSize: size, uncompressedSize: size } };
  }
  throw new NymphError('not-found', 'the blob has neither a ToC nor a bootstrap at its end', {
    hint: 'Name the bootstrap that belongs to the blob.',
  });
}

function verifyToc(tail: Uint8Array, size: number, known: KnownToc): void {
  const length = size + TAR_BLOCK_SIZE;
  if (known.size !== length) throw corrupt(STRUCTURE, 'size', 0, `${length} bytes, not ${known.size}`);
  const digest = digestOf('sha256', tail.subarray(tail.length - length));
  if (Buffer.compare(digest, known.sha256) !== 0)
    throw corrupt(STRUCTURE, 'sha256', 0, 'not the digest in the blob table');
}

function readToc(tail: Uint8Array, size: number, tailOffset: number): BlobTrailer {
  const start = tail.length - TAR_BLOCK_SIZE - size;
  if (start < 0 || size % ENTRY_SIZE !== 0) throw corrupt(STRUCTURE, 'size', 0, `${size} bytes`);
  const limit = tailOffset + start;
  const trailer: BlobTrailer = {};
  for (let at = start; at < start + size; at += ENTRY_SIZE) {
    const name = Buffer.from(tail.buffer, tail.byteOffset + at + 8, NAME_SIZE)
      .toString('latin1')
      .replace(/\0+$/, '');
    // The offset of "image.blob" is wrong in old builds; nothing needs that entry.
    if (name === 'image.boot') trailer.bootstrap = readMember(tail, at, name, limit);
    else if (name === 'blob.meta') trailer.chunkInfo = readMember(tail, at, name, limit);
    else if (name === 'blob.meta.header') trailer.chunkInfoHeader = readMember(tail, at, name, limit);
  }
  return trailer;
}

function readMember(tail: Uint8Array, at: number, name: string, limit: number): BlobMember {
  const view = new DataView(tail.buffer, tail.byteOffset + at, ENTRY_SIZE);
  const flags = view.getUint32(0, true);
  const codec = CODEC_OF_FLAG.get(flags & 0xf);
  if (codec === undefined) throw corrupt(STRUCTURE, 'flags', at, `0x${flags.toString(16)} names no known compressor`);
  const member: BlobMember = {
    name,
    codec,
    offset: readU64(view, 56, STRUCTURE, 'compressed_offset'),
    compressedSize: readU64(view, 64, STRUCTURE, 'compressed_size'),
    uncompressedSize: readU64(view, 72, STRUCTURE, 'uncompressed_size'),
    sha256: tail.slice(at + 24, at + 56),
  };
  if (member.offset + member.compressedSize > limit) {
    throw corrupt(STRUCTURE, 'compressed_offset', at + 56, `${name} reaches behind byte ${limit}`);
  }
  return member;
}

/**
 * Decodes a part and checks its digest, where it has one. Synchronous: for worker threads.
 * @param stored bytes `[offset, offset + compressedSize)` of the object
 * @param limit most bytes that it may decode to
 * @throws NymphError `corrupt`, or `unsupported` above the limit
 */
export function decodeMember(member: BlobMember, stored: Uint8Array, limit: number): Uint8Array {
  const { name, codec, compressedSize, uncompressedSize, sha256 } = member;
  if (stored.length !== compressedSize) throw corrupt(name, 'size', 0, `${stored.length} bytes, not ${compressedSize}`);
  if (uncompressedSize > limit) {
    throw new NymphError('unsupported', `${name}: ${uncompressedSize} bytes are more than the limit of ${limit}`);
  }
  const content = decodeFrame(codec, stored, uncompressedSize);
  if (sha256 !== undefined && Buffer.compare(digestOf('sha256', content), sha256) !== 0) {
    throw corrupt(name, 'sha256', 0, 'not the digest in the ToC');
  }
  return content;
}
