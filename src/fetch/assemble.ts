import type { ReadyMap } from '../cache/ready-map.ts';
import type { FrameTable } from '../image/image.ts';
import { type FrameIndex, firstFrameFrom, isFrameReady } from './frame-index.ts';

/** A frame whose bytes are all here. */
export interface Assembled {
  /** Of the frame, in the stored object: positions in the tables change when another image adds to them. */
  offset: number;
  bytes: Uint8Array;
}

/** Puts frames together from pieces of the stored object that come in any order. */
export interface Assembler {
  /** @returns the frames that are whole with this piece and not here yet, ascending; their bytes are views of the piece where it has all of them */
  take(index: FrameIndex, ready: ReadyMap, offset: number, bytes: Uint8Array): Assembled[];
}

interface Partial {
  bytes: Uint8Array;
  missing: number;
}

/** Bytes of frames that lie across two pieces, and wait for the other one. More is left to requests. */
const MOST_HELD = 32 << 20;

export function createAssembler(): Assembler {
  /** By offset: tables change, frames do not. */
  const partial = new Map<number, Partial>();
  let held = 0;

  function across(offset: number, size: number, at: number, bytes: Uint8Array): Uint8Array | undefined {
    let found = partial.get(offset);
    if (found === undefined) {
      found = { bytes: new Uint8Array(size), missing: size };
      partial.set(offset, found);
      held += size;
    }
    const from = Math.max(at, offset);
    const to = Math.min(at + bytes.length, offset + size);
    found.bytes.set(bytes.subarray(from - at, to - at), from - offset);
    found.missing -= to - from;
    if (found.missing > 0) return undefined;
    drop(offset, found);
    return found.bytes;
  }

  function drop(offset: number, { bytes }: Partial): void {
    partial.delete(offset);
    held -= bytes.length;
  }

  return {
    take(index, ready, offset, bytes) {
      const { frames } = index;
      const end = offset + bytes.length;
      const whole: Assembled[] = [];
      for (let frame = firstFrameBehind(frames, offset); frame < frames.count && frames.offset[frame] < end; frame++) {
        const start = frames.offset[frame];
        const size = frames.size[frame];
        if (start + size <= offset || isFrameReady(index, ready, frame)) continue;
        if (start >= offset && start + size <= end)
          whole.push({ offset: start, bytes: bytes.subarray(start - offset, start + size - offset) });
        else {
          const complete = across(start, size, offset, bytes);
          if (complete !== undefined) whole.push({ offset: start, bytes: complete });
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
