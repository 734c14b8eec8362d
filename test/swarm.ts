/** A swarm over bytes in memory, for tests of fetching: does what it is told, at once or in time. */
import { NymphError } from '../src/errors.ts';
import { type Clock, SYSTEM_CLOCK } from '../src/fetch/clock.ts';
import type { PieceOrigin, Swarm, SwarmPiece } from '../src/sources/swarm.ts';

export interface MemorySwarmOptions {
  pieceLength?: number;
  /** Whether peers have it; `undefined` = that cannot be told. */
  peers?: boolean | undefined;
  from?: PieceOrigin;
  /** ms before the first piece, and bytes a millisecond from there. */
  delay?: number;
  rate?: number;
  /** Is given each piece by its place in the order of sending; what it returns is sent instead. */
  each?: (
    piece: SwarmPiece,
    i: number,
    signal: AbortSignal,
  ) => Promise<SwarmPiece | undefined> | SwarmPiece | undefined;
  /** Pieces in another order. */
  order?: (pieces: SwarmPiece[]) => SwarmPiece[];
  size?: number;
}

export interface MemorySwarm extends Swarm {
  present: boolean;
  readonly opened: number;
  readonly sent: number;
  /** Streams that were given up before their end. */
  readonly ended: number;
  options: MemorySwarmOptions;
}

export function memorySwarm(
  stored: Uint8Array,
  options: MemorySwarmOptions = {},
  clock: Clock = SYSTEM_CLOCK,
): MemorySwarm {
  let opened = 0;
  let sent = 0;
  let ended = 0;

  async function* pieces(signal: AbortSignal): AsyncGenerator<SwarmPiece, void> {
    const { pieceLength = 100_000, from = 'peer', order, delay = 0, rate = Number.POSITIVE_INFINITY } = swarm.options;
    const list: SwarmPiece[] = [];
    for (let offset = 0; offset < stored.length; offset += pieceLength) {
      const bytes = stored.slice(offset, offset + pieceLength);
      list.push({ offset, length: bytes.length, bytes, from });
    }
    let finished = false;
    try {
      await pause(clock, delay, signal);
      const begun = clock.now();
      let done = 0;
      for (const [i, piece] of (order?.(list) ?? list).entries()) {
        done += piece.length;
        await pause(clock, begun + done / rate - clock.now(), signal);
        const { each } = swarm.options;
        const given = each === undefined ? piece : await each(piece, i, signal);
        if (given === undefined) continue;
        sent += given.length;
        yield given;
      }
      finished = true;
    } finally {
      if (!finished) ended++;
    }
  }

  const swarm: MemorySwarm = {
    name: 'swarm',
    present: true,
    options: { peers: true, ...options },
    available: () => swarm.present,
    look: async () => swarm.options.peers,
    async open(_, signal) {
      opened++;
      return { size: swarm.options.size ?? stored.length, pieces: pieces(signal) };
    },
    close() {},
    get opened() {
      return opened;
    },
    get sent() {
      return sent;
    },
    get ended() {
      return ended;
    },
  };
  return swarm;
}

/** Until the reader goes away. */
export function stalled(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) =>
    signal.addEventListener('abort', () => reject(new NymphError('cancelled', 'cancelled')), { once: true }),
  );
}

async function pause(clock: Clock, milliseconds: number, signal: AbortSignal): Promise<void> {
  if (milliseconds > 0) await clock.sleep(milliseconds, signal);
  if (signal.aborted) throw new NymphError('cancelled', 'cancelled');
}
