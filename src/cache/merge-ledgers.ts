import { DIGEST_SIZE } from '../codec/digest.ts';
import { coverageLimit, createCoverage } from '../image/coverage.ts';
import type { ChunkTable, Cipher, ContextTable, FrameTable } from '../image/image.ts';
import { digestSizeOf, type Ledger } from './ledger.ts';

/**
 * The union of two ledgers of one blob. Linear in both; 16,384 chunks take about 1 ms.
 *
 * @param a what is on disk. @param b what comes, with its dictionaries
 * @returns `a` itself if `b` adds nothing; undefined if they contradict each other: another size, digest, algorithm or
 *   key, or chunks or frames that overlap where they must not without being equal
 */
export function mergeLedgers(a: Ledger, b: Ledger): Ledger | undefined {
  if (a.id !== b.id || a.digest !== b.digest || a.digestAlgorithm !== b.digestAlgorithm || a.size !== b.size)
    return undefined;
  if (a.whole?.algorithm !== b.whole?.algorithm || a.whole?.hex !== b.whole?.hex) return undefined;
  if (!sameCipher(a.cipher, b.cipher) || (a.frames.contexts === undefined) !== (b.frames.contexts === undefined))
    return undefined;
  const limit = coverageLimit(a.frames);
  const frames = mergeOrdered(a.frames, b.frames, limit, (i, j) => sameFrame(a.frames, i, b.frames, j));
  if (!frames) return undefined;
  const chunks = mergeOrdered(a.chunks, b.chunks, 1, (i, j) => sameChunk(a, i, b, j));
  if (!chunks) return undefined;
  const newFrames = frames.length > a.frames.count;
  if (!newFrames && chunks.length === a.chunks.count) return a;
  const place = framePlaces(a.frames.count, b.frames.count, frames, a.frames, b.frames);
  return {
    ...a,
    frames: newFrames ? pickFrames(a, b, frames) : a.frames,
    chunks: pickChunks(a.chunks, b.chunks, digestSizeOf(a.digestAlgorithm), chunks, place),
    // Those of frames that both have are kept twice then: builders make the same contexts, or quite other ones.
    dictionarySize: a.dictionarySize + (newFrames ? b.dictionarySize : 0),
    ...(newFrames && b.dictionaries && { dictionaries: b.dictionaries }),
  };
}

function sameCipher(a: Cipher | undefined, b: Cipher | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return Buffer.compare(a.key, b.key) === 0 && Buffer.compare(a.iv, b.iv) === 0;
}

/** An entry of the union: an index into `a`, or -1 - index into `b`. */
type Pick = number;

interface Ranges {
  readonly count: number;
  readonly offset: Float64Array;
  readonly size: Uint32Array;
}

/** Entries of the union in order; undefined where more than `limit` overlap, or two with one offset are not the same. */
function mergeOrdered(
  a: Ranges,
  b: Ranges,
  limit: number,
  same: (i: number, j: number) => boolean,
): Int32Array | undefined {
  const picks = new Int32Array(a.count + b.count);
  const covers = createCoverage(limit);
  let length = 0;
  for (let i = 0, j = 0; i < a.count || j < b.count; ) {
    const fromA = j >= b.count || (i < a.count && a.offset[i] <= b.offset[j]);
    if (i < a.count && j < b.count && a.offset[i] === b.offset[j]) {
      if (!same(i, j)) return undefined;
      j++;
    }
    if (!(fromA ? covers(a.offset[i], a.size[i]) : covers(b.offset[j], b.size[j]))) return undefined;
    picks[length++] = fromA ? i++ : -1 - j++;
  }
  return picks.subarray(0, length);
}

function sameFrame(a: FrameTable, i: number, b: FrameTable, j: number): boolean {
  return (
    a.offset[i] === b.offset[j] &&
    a.size[i] === b.size[j] &&
    a.decodedSize[i] === b.decodedSize[j] &&
    a.codec[i] === b.codec[j] &&
    (a.contexts === undefined || b.contexts === undefined || sameContext(a.contexts, i, b.contexts, j))
  );
}

function sameContext(a: ContextTable, i: number, b: ContextTable, j: number): boolean {
  if (a.bits[i] !== b.bits[j] || a.value[i] !== b.value[j] || a.dictionarySize[i] !== b.dictionarySize[j]) return false;
  return sameDigest(a.dictionaryDigest, i, b.dictionaryDigest, j);
}

function sameDigest(a: Uint8Array, i: number, b: Uint8Array, j: number): boolean {
  for (let byte = 0; byte < DIGEST_SIZE; byte++) {
    if (a[i * DIGEST_SIZE + byte] !== b[j * DIGEST_SIZE + byte]) return false;
  }
  return true;
}

function sameChunk(a: Ledger, i: number, b: Ledger, j: number): boolean {
  const one = a.chunks;
  const other = b.chunks;
  if (one.size[i] !== other.size[j] || one.frameOffset[i] !== other.frameOffset[j]) return false;
  if (a.digestAlgorithm !== 'none' && !sameDigest(one.digest, i, other.digest, j)) return false;
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

function pickFrames(ledgerA: Ledger, ledgerB: Ledger, picks: Int32Array): FrameTable {
  const a = ledgerA.frames;
  const b = ledgerB.frames;
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
  if (a.contexts === undefined || b.contexts === undefined) return table;
  return { ...table, contexts: pickContexts(a.contexts, b.contexts, ledgerA.dictionarySize, picks) };
}

/** @param base where the dictionaries of `b` come to lie */
function pickContexts(a: ContextTable, b: ContextTable, base: number, picks: Int32Array): ContextTable {
  const count = picks.length;
  const table = {
    bits: new Uint8Array(count),
    value: new Uint8Array(count),
    dictionaryOffset: new Float64Array(count),
    dictionarySize: new Uint32Array(count),
    dictionaryDigest: new Uint8Array(count * DIGEST_SIZE),
  };
  for (let place = 0; place < count; place++) {
    const [from, index, shift] = picks[place] >= 0 ? [a, picks[place], 0] : [b, -1 - picks[place], base];
    table.bits[place] = from.bits[index];
    table.value[place] = from.value[index];
    table.dictionaryOffset[place] = from.dictionaryOffset[index] + shift;
    table.dictionarySize[place] = from.dictionarySize[index];
    const digest = from.dictionaryDigest.subarray(index * DIGEST_SIZE, (index + 1) * DIGEST_SIZE);
    table.dictionaryDigest.set(digest, place * DIGEST_SIZE);
  }
  return table;
}

function pickChunks(a: ChunkTable, b: ChunkTable, width: number, picks: Int32Array, places: Places): ChunkTable {
  const count = picks.length;
  const table = {
    count,
    offset: new Float64Array(count),
    size: new Uint32Array(count),
    digest: new Uint8Array(count * width),
    frame: new Uint32Array(count),
    frameOffset: new Uint32Array(count),
  };
  for (let place = 0; place < count; place++) {
    const ofA = picks[place] >= 0;
    const from = ofA ? a : b;
    const index = ofA ? picks[place] : -1 - picks[place];
    table.offset[place] = from.offset[index];
    table.size[place] = from.size[index];
    table.digest.set(from.digest.subarray(index * width, (index + 1) * width), place * width);
    table.frame[place] = (ofA ? places.a : places.b)[from.frame[index]];
    table.frameOffset[place] = from.frameOffset[index];
  }
  return table;
}
