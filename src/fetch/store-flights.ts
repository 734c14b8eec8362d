import type { CachedBlob } from '../cache/cache.ts';
import { DIGEST_SIZE } from '../codec/digest.ts';
import { jobBeside } from '../threads/job.ts';
import type { Priority, ThreadPool } from '../threads/pool.ts';
import type { Flight } from './flight.ts';
import { type FetchStatistics, statisticsOf } from './statistics.ts';
import type { FrameResult, StoreJob } from './store-types.ts';

/** Decodes, verifies and writes frames. */
export const STORE = jobBeside<StoreJob, FrameResult[]>(import.meta.url, 'store-job');
/** Frames of small files are handed to a work thread together, up to this many stored bytes. */
const JOB_BYTES = 256 << 10;

/** Where flights that have arrived are taken to. */
export interface Storage {
  blob: CachedBlob;
  pool: ThreadPool;
  statistics: FetchStatistics;
  /** Who brought the flights. */
  name: string;
  /** A chunk that a reader waited for is here. */
  arrived: (offset: number, isProgram: boolean) => void;
  /** The file of the blob took no data. */
  refused: (reason: string) => void;
}

/** A range of the stored object, whose frames are stored together. */
export interface Part {
  start: number;
  end: number;
  flights: Flight[];
}

/** A flight whose bytes were wrong. */
export interface BadFlight {
  flight: Flight;
  reason: string;
}

/**
 * Has those of a part's flights stored that nobody else has brought meanwhile, and settles them.
 * @param bytes the part's, as they are in the stored object: handed over, so that nobody may use them any more; or the
 *   file in which the stored object stands
 * @returns the flights whose bytes were wrong, unsettled
 */
export async function storePart(
  storage: Storage,
  part: Part,
  bytes: Uint8Array<ArrayBuffer> | { fd: number },
  priority: Priority,
): Promise<BadFlight[]> {
  const open = part.flights.filter((flight) => !flight.settled);
  if (open.length === 0) return [];
  // A fault may have caught up with a prefetch: its frames are decoded first.
  const urgent = open.some((flight) => flight.deadline !== undefined);
  return store(storage, part, bytes, open, urgent ? 'demand' : priority);
}

/** Neighbouring frames become one part; but those that a fault waits for do not wait for those that none does. */
export function groupFlights(flights: Flight[]): Part[] {
  const parts: Part[] = [];
  let members: Flight[] = [];
  const finish = () => {
    const last = members[members.length - 1].frame;
    parts.push({ start: members[0].frame.offset, end: last.offset + last.size, flights: members });
    members = [];
  };
  for (const flight of flights) {
    const last = members[members.length - 1];
    const previous = last?.frame;
    if (
      previous !== undefined &&
      ((last.deadline === undefined) !== (flight.deadline === undefined) ||
        previous.offset + previous.size !== flight.frame.offset ||
        flight.frame.offset + flight.frame.size - members[0].frame.offset > JOB_BYTES)
    )
      finish();
    members.push(flight);
  }
  finish();
  return parts;
}

async function store(
  { blob, pool, statistics, name, arrived, refused }: Storage,
  { start, end }: Part,
  bytes: Uint8Array<ArrayBuffer> | { fd: number },
  flights: Flight[],
  priority: Priority,
): Promise<BadFlight[]> {
  const inMemory = 'buffer' in bytes;
  const frames = flights.map(({ frame }) => ({
    at: frame.offset - start,
    size: frame.size,
    decodedSize: frame.decodedSize,
    codec: frame.codec,
    ...(frame.context && { context: frame.context }),
    chunks: frame.chunks.map(({ offset, size, frameOffset }) => ({ offset, size, frameOffset })),
  }));
  const job: StoreJob = {
    stored: inMemory ? bytes.buffer : { fd: bytes.fd, offset: start, length: end - start },
    frames,
    digestAlgorithm: blob.digestAlgorithm,
    digests: packDigests(flights),
    fd: blob.fd,
    ready: blob.ready.words.buffer,
    ...(blob.dictionaries !== undefined && { dictionaries: blob.dictionaries }),
    ...(blob.cipher && { cipher: blob.cipher }),
  };
  const results = await pool.run(STORE, job, {
    priority,
    bytes: end - start,
    transfer: inMemory ? [bytes.buffer] : [],
  });
  const wrong: BadFlight[] = [];
  for (const [index, result] of results.entries()) {
    const flight = flights[index];
    const isFirst = !flight.settled && result.type !== 'bad';
    if (isFirst && flight.hedge !== undefined) countHedge(statistics, flight.hedge, name);
    if (result.type === 'stored') {
      // A neighbour or a background fetch does not mean that it is about to be run.
      if (flight.deadline !== undefined)
        for (const { offset } of flight.frame.chunks) arrived(offset, result.programs.includes(offset));
      flight.settle([]);
    } else if (result.type === 'loose') {
      refused(result.reason);
      flight.settle(flight.frame.chunks.map((chunk, i) => ({ offset: chunk.offset, bytes: result.chunks[i] })));
    } else {
      statistics.badChunks++;
      wrong.push({ flight, reason: result.reason });
    }
  }
  return wrong;
}

/** @param winner who has brought the flight */
export function countHedge(statistics: FetchStatistics, hedge: string, winner: string): void {
  const count = statisticsOf(statistics, hedge);
  if (hedge === winner) count.hedgesWon++;
  else count.hedgesLost++;
}

/** The digests of a job's chunks, side by side in the order of its frames. */
function packDigests(flights: Flight[]): Uint8Array {
  const chunks = flights.flatMap(({ frame }) => frame.chunks);
  const digests = new Uint8Array(chunks.length * DIGEST_SIZE);
  for (const [i, chunk] of chunks.entries()) digests.set(chunk.digest, i * DIGEST_SIZE);
  return digests;
}
