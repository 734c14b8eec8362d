import { NymphError } from '../../errors.ts';
import type { PieceOrigin, SwarmPiece } from '../swarm.ts';
import { type DownloadAnswer, type PieceMessage, TRAFFIC } from './messages.ts';

/**
 * The pieces of a download, as dfdaemon sends them. Their digests are dfdaemon's own affair: a CRC of what a peer sent,
 * which vouches for nothing. Who takes the bytes verifies them.
 * @param size of the object @param next the next answer; `undefined` at the end @param stop ends the call
 * @throws NymphError `source` for pieces that are none of the object, and if not all of it came
 */
export async function* checkedPieces(
  what: string,
  size: number,
  next: () => Promise<DownloadAnswer | undefined>,
  stop: () => Promise<void>,
): AsyncGenerator<SwarmPiece, void> {
  const seen = new Set<number>();
  let left = size;
  try {
    for (let answer = await next(); answer !== undefined; answer = await next()) {
      const message = answer.downloadPieceFinishedResponse?.piece;
      if (message === undefined) throw wrong(what, 'an answer without a piece');
      const piece = checkPiece(what, size, message);
      if (seen.has(piece.offset)) continue;
      seen.add(piece.offset);
      left -= piece.bytes.length;
      yield piece;
    }
    if (left !== 0) throw wrong(what, `${size - left} bytes instead of ${size}`, true);
  } finally {
    await stop();
  }
}

function checkPiece(what: string, size: number, message: PieceMessage): SwarmPiece {
  const { number = 0, offset = 0, length = 0, content, trafficType, parentId } = message;
  if (
    !Number.isSafeInteger(offset) ||
    !Number.isSafeInteger(length) ||
    offset < 0 ||
    length < 1 ||
    offset + length > size
  )
    throw wrong(what, `piece ${number}, bytes ${offset} and ${length} more, of ${size}`);
  if (content?.length !== length) throw wrong(what, `${content?.length ?? 0} bytes as piece ${number} of ${length}`);
  return { offset, bytes: content, from: originOf(trafficType, parentId) };
}

function originOf(traffic: number | undefined, parent: string | undefined): PieceOrigin {
  if (traffic === TRAFFIC.local) return 'local';
  if (traffic === TRAFFIC.peer) return parent?.endsWith('-seed') ? 'seed' : 'peer';
  return 'origin';
}

function wrong(what: string, why: string, retryable = false): NymphError {
  return new NymphError('source', `dfdaemon sent ${what} wrongly: ${why}`, { retryable });
}
