import type { CachedBlob } from '../cache/cache.ts';
import { DIGEST_SIZE } from '../codec/digest.ts';
import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import { jobBeside } from '../threads/job.ts';
import type { Priority, ThreadPool } from '../threads/pool.ts';
import type { Flight } from './flight.ts';
import type { FetchStatistics } from './statistics.ts';
import type { FrameResult, StoreJob } from './store-types.ts';

/** Decodes, verifies and writes frames. */
export const STORE = jobBeside<StoreJob, FrameResult[]>(import.meta.url, 'store-job');
/** Frames of small files are handed to a work thread together, up to this many stored bytes. */
const JOB_BYTES = 256 << 10;

export interface Carriage {
  blob: CachedBlob;
  source: Source;
  pool: ThreadPool;
  statistics: FetchStatistics;
  /** Stored bytes that may wait for decoding before this request pauses. */
  backlog: number;
  /** A chunk that begins like a program is here. */
  program: (offset: number) => void;
  /** The file of the blob took no data. */
  refused: (reason: string) => void;
}

interface Part {
  start: number;
  end: number;
  flights: Flight[];
}

/** A part that the stream has come to. */
interface Filling extends Part {
  buffer: Uint8Array<ArrayBuffer>;
}

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
  const parts = group(flights);
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

  /** Copies a piece into all parts that it belongs to; those that are complete go on their way. */
  function take(piece: Uint8Array): void {
    const end = position + piece.length;
    for (; next < parts.length && parts[next].start < end; next++) {
      const part = parts[next];
      filling.push({ ...part, buffer: new Uint8Array(part.end - part.start) });
    }
    for (const part of filling) {
      const start = Math.max(position, part.start);
      part.buffer.set(piece.subarray(start - position, Math.min(end, part.end) - position), start - part.start);
      if (part.end <= end) dispatch(part);
    }
    filling = filling.filter((part) => part.end > end);
    position = end;
  }

  function dispatch(part: Filling): void {
    const open = part.flights.filter((flight) => !flight.settled);
    if (open.length === 0) return;
    // A fault may have caught up with a prefetch: its frames are decoded first.
    const urgent = open.some((flight) => flight.deadline !== undefined);
    jobs.push(
      store(carriage, part, open, urgent ? 'demand' : priority).then((wrong) => {
        if (wrong.length === 0) return;
        bad.push(...wrong.map((item) => item.flight));
        badReason = wrong[0].reason;
      }),
    );
  }

  statistics.requests++;
  try {
    stream = await source.read(from, to - from, signal);
    for await (const piece of stream) {
      statistics.bytes[source.name] = (statistics.bytes[source.name] ?? 0) + piece.length;
      take(piece);
      progress(position);
      // Readers come first; but what arrives faster than it can be decoded must not pile up for them either.
      await carriage.pool.below(priority === 'prefetch' ? carriage.backlog : 4 * carriage.backlog);
    }
    if (position !== to)
      error = new NymphError('source', `${source.name} ended ${to - position} bytes early`, { retryable: true });
  } catch (caught) {
    error = caught;
  }
  // All of them, whatever one says: no thread may touch the descriptor after we return.
  for (const job of await Promise.allSettled(jobs)) if (job.status === 'rejected') error ??= job.reason;
  return { error, bad, badReason, stream };
}

/** Neighbouring frames become one part; but those that a fault waits for do not wait for those that none does. */
function group(flights: Flight[]): Part[] {
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
  { blob, pool, statistics, program, refused }: Carriage,
  part: Filling,
  flights: Flight[],
  priority: Priority,
): Promise<{ flight: Flight; reason: string }[]> {
  const frames = flights.map(({ frame }) => ({
    at: frame.offset - part.start,
    size: frame.size,
    decodedSize: frame.decodedSize,
    codec: frame.codec,
    ...(frame.context && { context: frame.context }),
    chunks: frame.chunks.map(({ offset, size, frameOffset }) => ({ offset, size, frameOffset })),
  }));
  const job: StoreJob = {
    stored: part.buffer.buffer,
    frames,
    digestAlgorithm: blob.digestAlgorithm,
    digests: packDigests(flights),
    fd: blob.fd,
    ready: blob.ready.words.buffer,
    ...(blob.dictionaries !== undefined && { dictionaries: blob.dictionaries }),
    ...(blob.cipher && { cipher: blob.cipher }),
  };
  const results = await pool.run(STORE, job, { priority, bytes: part.buffer.length, transfer: [part.buffer.buffer] });
  const wrong: { flight: Flight; reason: string }[] = [];
  for (const [index, result] of results.entries()) {
    const flight = flights[index];
    if (result.type === 'stored') {
      // A neighbour or a background fetch does not mean that the program is about to run.
      if (flight.deadline !== undefined) result.programs.forEach(program);
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

/** The digests of a job's chunks, side by side in the order of its frames. */
function packDigests(flights: Flight[]): Uint8Array {
  const chunks = flights.flatMap(({ frame }) => frame.chunks);
  const digests = new Uint8Array(chunks.length * DIGEST_SIZE);
  for (const [i, chunk] of chunks.entries()) digests.set(chunk.digest, i * DIGEST_SIZE);
  return digests;
}
