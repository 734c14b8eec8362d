import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import type { Priority } from '../threads/pool.ts';
import type { Flight } from './flight.ts';
import { LARGE, type Race } from './race.ts';
import { countBytes, countEnd, statisticsOf } from './statistics.ts';
import { groupFlights, type Part, type Storage, storePart } from './store-flights.ts';
import { isPlain, storePlain } from './store-plain.ts';

export interface Carriage extends Storage {
  source: Source;
  race: Race;
  /** Stored bytes that may wait for decoding before this request pauses. */
  backlog: number;
}

/** A part that the stream has come to, and its bytes as they came. */
interface Filling extends Part {
  pieces: Uint8Array[];
}

/** Bytes of one request that may be on their way to the disk before it pauses. */
const MOST_WRITING = 16 << 20;

export interface Outcome {
  error?: unknown;
  bad: Flight[];
  badReason?: string;
  /** As the source gave it. */
  stream?: AsyncIterable<Uint8Array>;
}

/**
 * One request for a run of frames: streams their range, cuts it, hands each group to a work thread as soon as it is
 * complete, and settles its flights. Flights that did not arrive, or arrived wrong, are left unsettled.
 * @param flights ascending by frame offset, not empty; gaps between them are read and dropped, and what several frames
 *   have in common is read once.
 * @returns the error that ended the stream early, if one did, the flights whose bytes were wrong, and the stream.
 */
export async function carry(
  carriage: Carriage,
  flights: Flight[],
  priority: Priority,
  signal: AbortSignal,
  progress: (position: number) => void,
): Promise<Outcome> {
  const { source, statistics } = carriage;
  const parts = groupFlights(flights);
  const from = parts[0].start;
  const to = parts.reduce((end, part) => Math.max(end, part.end), 0);
  const jobs: Promise<void>[] = [];
  const bad: Flight[] = [];
  let badReason: string | undefined;
  let error: unknown;
  let stream: AsyncIterable<Uint8Array> | undefined;
  let next = 0;
  let position = from;
  let filling: Filling[] = [];
  let writing = 0;

  /** Gives a piece to all parts that it belongs to; those that are complete go on their way. */
  function take(piece: Uint8Array): void {
    const end = position + piece.length;
    for (; next < parts.length && parts[next].start < end; next++) {
      const part = parts[next];
      filling.push({ ...part, pieces: [] });
    }
    for (const part of filling) {
      const start = Math.max(position, part.start);
      part.pieces.push(piece.subarray(start - position, Math.min(end, part.end) - position));
      if (part.end <= end) dispatch(part);
    }
    filling = filling.filter((part) => part.end > end);
    position = end;
  }

  function dispatch(part: Filling): void {
    const size = part.end - part.start;
    if (isPlain(carriage.blob, part)) {
      writing += size;
      jobs.push(storePlain(carriage, part, part.pieces).finally(() => (writing -= size)));
      return;
    }
    const bytes = new Uint8Array(size);
    let at = 0;
    for (const piece of part.pieces) {
      bytes.set(piece, at);
      at += piece.length;
    }
    jobs.push(
      storePart(carriage, part, bytes, priority).then((wrong) => {
        if (wrong.length === 0) return;
        bad.push(...wrong.map((item) => item.flight));
        badReason = wrong[0].reason;
      }),
    );
  }

  const isLarge = to - from >= LARGE;
  const { clock } = carriage.race;
  const begun = clock.now();
  let measured: (() => void) | undefined;
  statistics.requests++;
  try {
    stream = await source.read(from, to - from, signal);
    // Known now, whichever of several places it was.
    const count = statisticsOf(statistics, source.name);
    count.requests++;
    for await (const piece of stream) {
      if (position === from) count.latency.add(clock.now() - begun);
      if (isLarge) {
        measured ??= carriage.race.requests.begin();
        carriage.race.requests.add(piece.length);
      }
      countBytes(statistics, count, source.name, carriage.blob.key, piece.length);
      take(piece);
      progress(position);
      // Readers come first; but what arrives faster than it can be decoded must not pile up for them either.
      await carriage.pool.below(priority === 'prefetch' ? carriage.backlog : 4 * carriage.backlog);
      if (writing > MOST_WRITING) await Promise.allSettled(jobs);
    }
    if (position !== to)
      error = new NymphError('source', `${source.name} ended ${to - position} bytes early`, { retryable: true });
  } catch (caught) {
    error = caught;
  } finally {
    measured?.();
  }
  countEnd(statisticsOf(statistics, source.name), signal.aborted && error !== undefined ? 'cancelled' : error);
  // All of them, whatever one says: no thread may touch the descriptor after we return.
  for (const job of await Promise.allSettled(jobs)) if (job.status === 'rejected') error ??= job.reason;
  return { error, bad, badReason, stream };
}
