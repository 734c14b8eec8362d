import { DIGEST_SIZE } from '../codec/digest.ts';
import { corrupt } from '../errors.ts';
import {
  BLOCK_SIZE,
  type Blob,
  type ChunkTable,
  CODECS,
  type DigestAlgorithm,
  type FrameTable,
  type OciDigest,
} from '../image/image.ts';

/** What all images on a blob say of it: the union of their tables. Never changed in place. */
export interface Ledger {
  readonly id: string;
  readonly digest: OciDigest;
  readonly digestAlgorithm: DigestAlgorithm;
  /** Bytes of the flat file. */
  readonly size: number;
  readonly chunks: ChunkTable;
  readonly frames: FrameTable;
}

export function ledgerOf(blob: Blob): Ledger {
  const { id, digest, digestAlgorithm, size, chunks, frames } = blob;
  return { id, digest, digestAlgorithm, size, chunks, frames };
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
  if (chunks.digest.length < chunks.count * DIGEST_SIZE) throw refuse('chunks.digest', 0, 'too short');
  let end = 0;
  for (let i = 0; i < frames.count; i++) {
    if (!(frames.offset[i] >= end) || !Number.isSafeInteger(frames.offset[i]))
      throw refuse('frames.offset', i, 'order');
    if (!(frames.size[i] > 0 && frames.decodedSize[i] > 0)) throw refuse('frames.size', i, 'empty frame');
    if (frames.codec[i] >= CODECS.length) throw refuse('frames.codec', i, 'unknown codec');
    end = frames.offset[i] + frames.size[i];
  }
  end = 0;
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

/**
 * The union of two ledgers of one blob. Linear in both; 16,384 chunks take about 1 ms.
 *
 * @returns `a` itself if `b` adds nothing; undefined if they contradict each other: another size, digest or algorithm,
 *   or chunks or frames that overlap without being equal
 */
export function mergeLedgers(a: Ledger, b: Ledger): Ledger | undefined {
  if (a.id !== b.id || a.digest !== b.digest || a.digestAlgorithm !== b.digestAlgorithm || a.size !== b.size)
    return undefined;
  const frames = mergeOrdered(a.frames, b.frames, (i, j) => sameFrame(a.frames, i, b.frames, j));
  if (!frames) return undefined;
  const chunks = mergeOrdered(a.chunks, b.chunks, (i, j) => sameChunk(a, i, b, j));
  if (!chunks) return undefined;
  if (frames.length === a.frames.count && chunks.length === a.chunks.count) return a;
  const place = framePlaces(a.frames.count, b.frames.count, frames, a.frames, b.frames);
  return {
    ...a,
    frames: pickFrames(a.frames, b.frames, frames),
    chunks: pickChunks(a.chunks, b.chunks, chunks, place),
  };
}

/** An entry of the union: an index into `a`, or -1 - index into `b`. */
type Pick = number;

interface Ranges {
  readonly count: number;
  readonly offset: Float64Array;
  readonly size: Uint32Array;
}

/** Entries of the union in order; undefined where two overlap and are not the same. */
function mergeOrdered(a: Ranges, b: Ranges, same: (i: number, j: number) => boolean): Int32Array | undefined {
  const picks = new Int32Array(a.count + b.count);
  let length = 0;
  let end = 0;
  for (let i = 0, j = 0; i < a.count || j < b.count; ) {
    const fromA = j >= b.count || (i < a.count && a.offset[i] <= b.offset[j]);
    if (i < a.count && j < b.count && a.offset[i] === b.offset[j]) {
      if (!same(i, j)) return undefined;
      j++;
    }
    const offset = fromA ? a.offset[i] : b.offset[j];
    if (offset < end) return undefined;
    end = offset + (fromA ? a.size[i] : b.size[j]);
    picks[length++] = fromA ? i++ : -1 - j++;
  }
  return picks.subarray(0, length);
}

function sameFrame(a: FrameTable, i: number, b: FrameTable, j: number): boolean {
  return (
    a.offset[i] === b.offset[j] &&
    a.size[i] === b.size[j] &&
    a.decodedSize[i] === b.decodedSize[j] &&
    a.codec[i] === b.codec[j]
  );
}

function sameChunk(a: Ledger, i: number, b: Ledger, j: number): boolean {
  const one = a.chunks;
  const other = b.chunks;
  if (one.size[i] !== other.size[j] || one.frameOffset[i] !== other.frameOffset[j]) return false;
  for (let byte = 0; byte < DIGEST_SIZE; byte++) {
    if (one.digest[i * DIGEST_SIZE + byte] !== other.digest[j * DIGEST_SIZE + byte]) return false;
  }
  return sameFrame(a.frames, one.frame[i], b.frames, other.frame[j]);
}

/** Where the frames of each side are in the union. */
interface Places {
  readonly a: Uint32Array;
  readonly b: Uint32Array;
}

function framePlaces(countA: number, countB: number, picks: Int32Array, a: FrameTable, b: FrameTable): Places {
  const places = { a: new Uint32Array(countA), b: new Uint32Array(countB) };
  for (let place = 0, j = 0; place < picks.length; place++) {
    const pick: Pick = picks[place];
    if (pick >= 0) places.a[pick] = place;
    if (pick < 0 || (j < countB && a.offset[pick] === b.offset[j])) places.b[j++] = place;
  }
  return places;
}

function pickFrames(a: FrameTable, b: FrameTable, picks: Int32Array): FrameTable {
  const count = picks.length;
  const table = {
    count,
    offset: new Float64Array(count),
    size: new Uint32Array(count),
    decodedSize: new Uint32Array(count),
    codec: new Uint8Array(count),
  };
  for (let place = 0; place < count; place++) {
    const [from, index] = picks[place] >= 0 ? [a, picks[place]] : [b, -1 - picks[place]];
    table.offset[place] = from.offset[index];
    table.size[place] = from.size[index];
    table.decodedSize[place] = from.decodedSize[index];
    table.codec[place] = from.codec[index];
  }
  return table;
}

function pickChunks(a: ChunkTable, b: ChunkTable, picks: Int32Array, places: Places): ChunkTable {
  const count = picks.length;
  const table = {
    count,
    offset: new Float64Array(count),
    size: new Uint32Array(count),
    digest: new Uint8Array(count * DIGEST_SIZE),
    frame: new Uint32Array(count),
    frameOffset: new Uint32Array(count),
  };
  for (let place = 0; place < count; place++) {
    const ofA = picks[place] >= 0;
    const from = ofA ? a : b;
    const index = ofA ? picks[place] : -1 - picks[place];
    table.offset[place] = from.offset[index];
    table.size[place] = from.size[index];
    table.digest.set(from.digest.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE), place * DIGEST_SIZE);
    table.frame[place] = (ofA ? places.a : places.b)[from.frame[index]];
    table.frameOffset[place] = from.frameOffset[index];
  }
  return table;
}
