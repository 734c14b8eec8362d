import { countClears, isReady, type ReadyMap } from '../cache/ready-map.ts';
import { crc32c } from '../codec/crc32c.ts';
import type { PieceChecksum } from '../image/files.ts';

/** Compares pieces of a file with their checksums while others are still coming, some bytes at a time. */
export interface PieceChecks {
  /**
   * Goes on with a piece that is here, if there is one.
   * @param read fills a part of a buffer of its own from a place in the file
   * @returns true if something was done; with `wrong`, a piece that does not have its checksum
   */
  step(read: (offset: number, length: number) => Uint8Array): { done: boolean; wrong?: PieceChecksum; again?: boolean };
}

const SLICE = 1 << 20;
/** A piece that came wrong is fetched again once: then it is for the digest of the whole to say who is wrong. */
const MOST_TRIES = 2;

export function createPieceChecks(pieces: readonly PieceChecksum[], map: ReadyMap): PieceChecks {
  const tries = new Uint8Array(pieces.length);
  /** Those that are not found right or given up, and how often bits had been cleared when they were found wrong. */
  const open = new Map(pieces.map((_, i): [number, number | undefined] => [i, undefined]));
  let current: { index: number; position: number; crc: number; clears: number } | undefined;

  function begin(): typeof current {
    const clears = countClears(map);
    for (const [index, seen] of open) {
      const { offset, size } = pieces[index];
      if (seen !== clears && isReady(map, offset, size)) return { index, position: 0, crc: 0, clears };
    }
    return undefined;
  }

  return {
    step(read) {
      if (current !== undefined && current.clears !== countClears(map)) current = undefined;
      current ??= begin();
      if (current === undefined) return { done: false };
      const { index } = current;
      const piece = pieces[index];
      const bytes = read(piece.offset + current.position, Math.min(SLICE, piece.size - current.position));
      current.crc = crc32c(bytes, current.crc);
      current.position += bytes.length;
      if (current.position < piece.size) return { done: true };
      const { crc, clears } = current;
      current = undefined;
      if (crc === piece.crc) {
        open.delete(index);
        return { done: true };
      }
      const again = ++tries[index] < MOST_TRIES;
      if (again) open.set(index, clears);
      else open.delete(index);
      return { done: true, wrong: piece, again };
    },
  };
}
