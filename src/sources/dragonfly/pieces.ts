import { NymphError } from '../../errors.ts';
import type { PieceOrigin, SwarmPiece } from '../swarm.ts';
import { type DownloadAnswer, type PieceMessage, TRAFFIC } from './messages.ts';

/**
 * The pieces of a download, as dfdaemon sends them. Their digests are dfdaemon's own affair: a CRC of what a peer sent,
 * which vouches for nothing. Who takes the bytes verifies them.
 * @param size of the object @param withBytes whether pieces bring their bytes
 * @param next the next answer; `undefined` at the end @param stop ends the call
 * @throws NymphError `source` for pieces that are none of the object, and if not all of it came
 */
export async function* checkedPieces(
  what: string,
  size: number,
  withBytes: boolean,
  next: () => Promise<DownloadAnswer | undefined>,
  stop: () => Promise<void>,
): AsyncGenerator<SwarmPiece, void> {
  const ranges = createRanges();
  let left = size;
  try {
    for (let answer = await next(); answer !== undefined; answer = await next()) {
      const message = answer.downloadPieceFinishedResponse?.piece;
      if (message === undefined) throw wrong(what, 'an answer without a piece');
      const piece = checkPiece(what, size, withBytes, message);
      const added = ranges.add(piece.offset, piece.length);
      if (added === 'known') continue;
      if (added === 'overlaps')
        throw wrong(what, `bytes ${piece.offset} and ${piece.length} more overlap with a piece`);
      left -= piece.length;
      yield piece;
    }
    if (left !== 0) throw wrong(what, `${size - left} bytes instead of ${size}`, true);
  } finally {
    await stop();
  }
}

function checkPiece(what: string, size: number, withBytes: boolean, message: PieceMessage): SwarmPiece {
  const { number = 0, offset = 0, length = 0, content, trafficType, parentId } = message;
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 1 ||
    offset + length > size
  )
    throw wrong(what, `piece ${number}, bytes ${offset} and ${length} more, of ${size}`);
  const from = originOf(trafficType, parentId);
  if (!withBytes) return { offset, length, from };
  if (content?.length !== length) throw wrong(what, `${content?.length ?? 0} bytes as piece ${number} of ${length}`);
  return { offset, length, bytes: content, from };
}

/** Ranges that do not overlap. */
function createRanges() {
  /** Ascending. */
  const starts: number[] = [];
  const ends: number[] = [];
  return {
    add(start: number, length: number): 'new' | 'known' | 'overlaps' {
      let at = starts.length;
      // Mostly they come nearly in order.
      while (at > 0 && starts[at - 1] >= start) at--;
      const end = start + length;
      if (starts[at] === start && ends[at] === end) return 'known';
      if ((at > 0 && ends[at - 1] > start) || (at < starts.length && starts[at] < end)) return 'overlaps';
      starts.splice(at, 0, start);
      ends.splice(at, 0, end);
      return 'new';
    },
  };
}

function originOf(traffic: number | undefined, parent: string | undefined): PieceOrigin {
  if (traffic === TRAFFIC.local) return 'local';
  if (traffic === TRAFFIC.peer) return parent?.endsWith('-seed') ? 'seed' : 'peer';
  return 'origin';
}

function wrong(what: string, why: string, retryable = false): NymphError {
  return new NymphError('source', `dfdaemon sent ${what} wrongly: ${why}`, { retryable });
}
