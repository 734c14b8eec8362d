import type { ReadyMap } from '../cache/ready-map.ts';
import type { FrameTable } from '../image/image.ts';
import { type FrameIndex, firstFrameFrom, isFrameReady } from './frame-index.ts';

/** A frame whose bytes are all here. */
export interface Assembled {
  /** Of the frame, in the stored object: positions in the tables change when another image adds to them. */
  offset: number;
  size: number;
  /** Absent where the pieces had none: they stand in a file. */
  bytes?: Uint8Array;
}

/** A range of the stored object that has come. */
export interface AssembledPiece {
  offset: number;
  length: number;
  bytes?: Uint8Array;
}

/** Puts frames together from pieces of the stored object that come in any order and do not overlap. */
export interface Assembler {
  /** @returns the frames that are whole with this piece and not here yet, ascending; their bytes are views of the piece where it has all of them */
  take(index: FrameIndex, ready: ReadyMap, piece: AssembledPiece): Assembled[];
}

interface Partial {
  bytes: Uint8Array | undefined;
  missing: number;
}

/** Bytes of frames that lie across two pieces, and wait for the other one. More is left to requests. */
const MOST_HELD = 32 << 20;

export function createAssembler(): Assembler {
  /** By offset: tables change, frames do not. */
  const partial = new Map<number, Partial>();
  let held = 0;

  /** @returns the frame, if it is whole now */
  function across(offset: number, size: number, piece: AssembledPiece): Assembled | undefined {
    let found = partial.get(offset);
    if (found === undefined) {
      found = { bytes: piece.bytes && new Uint8Array(size), missing: size };
      partial.set(offset, found);
      held += found.bytes?.length ?? 0;
    }
    const from = Math.max(piece.offset, offset);
    const to = Math.min(piece.offset + piece.length, offset + size);
    if (piece.bytes !== undefined)
      found.bytes?.set(piece.bytes.subarray(from - piece.offset, to - piece.offset), from - offset);
    found.missing -= to - from;
    if (found.missing > 0) return undefined;
    drop(offset, found);
    return { offset, size, bytes: found.bytes };
  }

  function drop(offset: number, { bytes }: Partial): void {
    partial.delete(offset);
    held -= bytes?.length ?? 0;
  }

  return {
    take(index, ready, piece) {
      const { frames } = index;
      const { offset, length, bytes } = piece;
      const end = offset + length;
      const whole: Assembled[] = [];
      for (let frame = firstFrameBehind(frames, offset); frame < frames.count && frames.offset[frame] < end; frame++) {
        const start = frames.offset[frame];
        const size = frames.size[frame];
        if (start + size <= offset || isFrameReady(index, ready, frame)) continue;
        if (start >= offset && start + size <= end)
          whole.push({ offset: start, size, bytes: bytes?.subarray(start - offset, start + size - offset) });
        else {
          const complete = across(start, size, piece);
          if (complete !== undefined) whole.push(complete);
        }
      }
      while (held > MOST_HELD) drop(...(partial.entries().next().value as [number, Partial]));
      return whole;
    },
  };
}

/** The first frame that may reach beyond `offset`: frames overlap with their neighbours at most. */
function firstFrameBehind(frames: FrameTable, offset: number): number {
  let first = firstFrameFrom(frames, offset);
  while (first > 0 && frames.offset[first - 1] + frames.size[first - 1] > offset) first--;
  return first;
}
