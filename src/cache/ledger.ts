import { DIGEST_SIZE } from '../codec/digest.ts';
import { corrupt } from '../errors.ts';
import { coverageLimit, createCoverage } from '../image/coverage.ts';
import {
  BLOCK_SIZE,
  type Blob,
  type ChunkDigest,
  type ChunkTable,
  type Cipher,
  CODECS,
  type ContextTable,
  type FrameTable,
  MAX_DICTIONARY,
  type OciDigest,
  type WholeDigest,
} from '../image/image.ts';

/** What all images on a blob say of it: the union of their tables. Never changed in place. */
export interface Ledger {
  readonly id: string;
  readonly digest: OciDigest;
  readonly digestAlgorithm: ChunkDigest;
  /** Bytes of the flat file. */
  readonly size: number;
  readonly chunks: ChunkTable;
  readonly frames: FrameTable;
  readonly cipher?: Cipher;
  /** As in Blob, where chunks have no digests. */
  readonly whole?: WholeDigest;
  readonly origin?: string;
  /** Bytes of the entry's `dictionaries` file, into which `frames.contexts` points. */
  readonly dictionarySize: number;
  /** The end of them, where the file does not hold it yet. */
  readonly dictionaries?: Uint8Array;
}

export function ledgerOf(blob: Blob): Ledger {
  const { id, digest, digestAlgorithm, size, chunks, frames, cipher, whole, origin, dictionaries } = blob;
  return {
    id,
    digest,
    digestAlgorithm,
    size,
    chunks,
    frames,
    ...(cipher && { cipher }),
    ...(whole && { whole }),
    ...(origin !== undefined && { origin }),
    dictionarySize: dictionaries?.length ?? 0,
    ...(dictionaries && { dictionaries }),
  };
}

/**
 * Checks what the tables promise: ascending, without overlap, inside the blob and the frames.
 * @throws NymphError `corrupt`
 */
export function checkTables(ledger: Ledger): void {
  const { chunks, frames } = ledger;
  const refuse = (field: string, index: number, why: string) =>
    corrupt(`tables of blob ${ledger.id}`, field, index, why);
  if (frames.codec.length < frames.count) throw refuse('frames.codec', 0, 'too short');
  if (chunks.digest.length < chunks.count * digestSizeOf(ledger.digestAlgorithm))
    throw refuse('chunks.digest', 0, 'too short');
  const covers = createCoverage(coverageLimit(frames));
  for (let i = 0; i < frames.count; i++) {
    if (!covers(frames.offset[i], frames.size[i]) || !Number.isSafeInteger(frames.offset[i]))
      throw refuse('frames.offset', i, 'order');
    if (!(frames.size[i] > 0 && frames.decodedSize[i] > 0)) throw refuse('frames.size', i, 'empty frame');
    if (frames.codec[i] >= CODECS.length) throw refuse('frames.codec', i, 'unknown codec');
  }
  const wrong = frames.contexts && wrongContext(frames.contexts, frames.count, ledger.dictionarySize);
  if (wrong !== undefined) throw refuse('frames.contexts', wrong, 'bits or dictionary out of range');
  let end = 0;
  for (let i = 0; i < chunks.count; i++) {
    const offset = chunks.offset[i];
    if (!(offset >= end) || offset % BLOCK_SIZE !== 0) throw refuse('chunks.offset', i, 'order or alignment');
    if (!(chunks.size[i] > 0)) throw refuse('chunks.size', i, 'empty chunk');
    end = offset + chunks.size[i];
    if (!(end <= ledger.size)) throw refuse('chunks.size', i, 'behind the end of the blob');
    if (!(chunks.frame[i] < frames.count)) throw refuse('chunks.frame', i, 'no such frame');
    if (!(chunks.frameOffset[i] + chunks.size[i] <= frames.decodedSize[chunks.frame[i]]))
      throw refuse('chunks.frameOffset', i, 'behind the end of the frame');
  }
}

/** Bytes of the digest of a chunk. */
export function digestSizeOf(algorithm: ChunkDigest): number {
  return algorithm === 'none' ? 0 : DIGEST_SIZE;
}

/** The first row that breaks what the table promises. */
function wrongContext(contexts: ContextTable, count: number, dictionaries: number): number | undefined {
  if (contexts.dictionaryDigest.length < count * DIGEST_SIZE) return 0;
  let end = 0;
  for (let i = 0; i < count; i++) {
    const size = contexts.dictionarySize[i];
    if (!(contexts.bits[i] < 8) || contexts.value[i] >> contexts.bits[i] !== 0 || size > MAX_DICTIONARY) return i;
    if (size === 0) continue;
    const offset = contexts.dictionaryOffset[i];
    if (!(offset >= 0 && offset + size <= dictionaries)) return i;
    end += size;
  }
  // Ranges that overlap would be work without end for who verifies them.
  return end > dictionaries ? 0 : undefined;
}
