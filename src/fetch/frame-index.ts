import { isReady, type ReadyMap } from '../cache/ready-map.ts';
import { type ChunkTable, CODECS, type ContextTable, type FrameTable, firstChunkAfter } from '../image/image.ts';
import type { FrameContext, StoreChunk } from './store-types.ts';

/** The tables of a blob's ledger as they were at one moment, with the chunks of each frame at hand. */
export interface FrameIndex {
  readonly chunks: ChunkTable;
  readonly frames: FrameTable;
  /** Chunks of frame `f`: `members[start[f]] … members[start[f + 1] - 1]`. */
  readonly start: Uint32Array;
  readonly members: Uint32Array;
}

/** Sorts chunks by frame (counting sort: the tables hold up to 2^24 rows). */
export function indexFrames(chunks: ChunkTable, frames: FrameTable): FrameIndex {
  const start = new Uint32Array(frames.count + 1);
  for (let i = 0; i < chunks.count; i++) start[chunks.frame[i] + 1]++;
  for (let f = 0; f < frames.count; f++) start[f + 1] += start[f];
  const fill = start.slice(0, frames.count);
  const members = new Uint32Array(chunks.count);
  for (let i = 0; i < chunks.count; i++) members[fill[chunks.frame[i]]++] = i;
  return { chunks, frames, start, members };
}

/**
 * Frames, ascending and each once, that hold chunks of `[offset, offset + length)` which are not here.
 * @param loose chunks that are not in the file, but not missing either
 */
export function missingFrames(
  index: FrameIndex,
  ready: ReadyMap,
  offset: number,
  length: number,
  loose: readonly { offset: number }[] = [],
): number[] {
  const { chunks } = index;
  const found: number[] = [];
  const end = offset + length;
  let last = -1;
  for (let i = firstChunkAfter(chunks, offset); i < chunks.count && chunks.offset[i] < end; i++) {
    const frame = chunks.frame[i];
    if (frame === last || isReady(ready, chunks.offset[i], chunks.size[i])) continue;
    if (loose.some((chunk) => chunk.offset === chunks.offset[i])) continue;
    last = frame;
    found.push(frame);
  }
  // Members of batches may lie between other frames.
  return [...new Set(found)].sort((a, b) => a - b);
}

/** Where the last frame ends in the stored object. */
export function storedEnd({ frames: { count, offset, size } }: FrameIndex): number {
  return count === 0 ? 0 : offset[count - 1] + size[count - 1];
}

/** The frame that begins at `offset` of the stored object. */
export function frameBeginning({ frames }: FrameIndex, offset: number): number | undefined {
  const frame = firstFrameFrom(frames, offset);
  return frame < frames.count && frames.offset[frame] === offset ? frame : undefined;
}

/** The first frame that begins at `offset` of the stored object or behind it; the number of frames if there is none. */
export function firstFrameFrom(frames: FrameTable, offset: number): number {
  let low = 0;
  let high = frames.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (frames.offset[middle] < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** True if every chunk of the frame is here. */
export function isFrameReady(index: FrameIndex, ready: ReadyMap, frame: number): boolean {
  for (let m = index.start[frame]; m < index.start[frame + 1]; m++) {
    const i = index.members[m];
    if (!isReady(ready, index.chunks.offset[i], index.chunks.size[i])) return false;
  }
  return true;
}

/** A frame taken out of the tables: valid whatever happens to them. */
export interface Frame {
  /** In the stored object. */
  offset: number;
  size: number;
  decodedSize: number;
  codec: (typeof CODECS)[number];
  context?: FrameContext;
  /** With 32 bytes of digest each: a view of the table. */
  chunks: (StoreChunk & { digest: Uint8Array })[];
}

export function frameAt(index: FrameIndex, frame: number): Frame {
  const { chunks, frames } = index;
  const list: Frame['chunks'] = [];
  for (let m = index.start[frame]; m < index.start[frame + 1]; m++) {
    const i = index.members[m];
    list.push({
      offset: chunks.offset[i],
      size: chunks.size[i],
      frameOffset: chunks.frameOffset[i],
      digest: chunks.digest.subarray(i * 32, i * 32 + 32),
    });
  }
  return {
    offset: frames.offset[frame],
    size: frames.size[frame],
    decodedSize: frames.decodedSize[frame],
    codec: CODECS[frames.codec[frame]],
    ...(frames.contexts && { context: contextAt(frames.contexts, frame) }),
    chunks: list,
  };
}

function contextAt(contexts: ContextTable, frame: number): FrameContext {
  return {
    bits: contexts.bits[frame],
    value: contexts.value[frame],
    dictionaryOffset: contexts.dictionaryOffset[frame],
    dictionarySize: contexts.dictionarySize[frame],
    dictionaryDigest: contexts.dictionaryDigest.slice(frame * 32, frame * 32 + 32),
  };
}
