import type { ChunkDigest, Cipher, Codec } from '../image/image.ts';

/** A chunk to be cut out of a decoded frame, checked, and written. */
export interface StoreChunk {
  /** Place in the blob, bytes. */
  offset: number;
  size: number;
  /** Place in the decoded frame, bytes. */
  frameOffset: number;
}

/** How to inflate a frame that begins in the midst of a gzip stream: a row of the ContextTable. */
export interface FrameContext {
  bits: number;
  value: number;
  dictionaryOffset: number;
  dictionarySize: number;
  dictionaryDigest: Uint8Array;
}

export interface StoreFrame {
  /** Where the stored frame begins in the job's bytes. */
  at: number;
  size: number;
  decodedSize: number;
  codec: Codec;
  context?: FrameContext;
  chunks: StoreChunk[];
}

/** Bytes that stand in a file. */
export interface FileRange {
  fd: number;
  offset: number;
  length: number;
}

/** Frames that arrived together: to be decoded, verified and written by a work thread. */
export interface StoreJob {
  stored: ArrayBuffer | FileRange;
  frames: StoreFrame[];
  /** With `none` what was decoded counts as right: the whole is checked later. */
  digestAlgorithm: ChunkDigest;
  /** 32 bytes for each chunk, in the order of the frames: one array travels, thousands of small ones would cost more than decoding. */
  digests: Uint8Array;
  /** Descriptor of the blob's data file, and its readiness map. */
  fd: number;
  ready: SharedArrayBuffer;
  /** Descriptor of the dictionaries, for frames with a context. */
  dictionaries?: number;
  /** The frames are encrypted. */
  cipher?: Cipher;
}

/** What became of one frame. */
export type FrameResult =
  /** Verified, in the file, and its bits are set. `programs`: offsets of chunks that begin like a program. */
  | { type: 'stored'; programs: number[] }
  /** Verified, but the file took no more (a full disk): here are the chunks, in the job's order. */
  | { type: 'loose'; chunks: Uint8Array<ArrayBuffer>[]; reason: string }
  /** Not decodable, or a chunk is not what its digest says; those that are, are in the file and have their bits. */
  | { type: 'bad'; reason: string };
