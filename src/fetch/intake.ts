import { setImmediate as othersTurn } from 'node:timers/promises';
import type { CachedBlob } from '../cache/cache.ts';
import type { SwarmFile, SwarmPiece } from '../sources/swarm.ts';
import { type Assembled, createAssembler } from './assemble.ts';
import type { FetchContext } from './context.ts';
import type { Flight } from './flight.ts';
import { type FrameIndex, frameBeginning, isFrameReady } from './frame-index.ts';
import { groupFlights, type Part, storePart } from './store-flights.ts';

/** Takes the pieces of one stream: has their frames stored, and settles the flights that wait for them. */
export interface Intake {
  /** Resolves when more can be taken. @param file where the piece stands, if it has no bytes of its own */
  take(piece: SwarmPiece, file?: Pick<SwarmFile, 'fd'>): Promise<void>;
  /** Resolves when all that was taken is stored. */
  stored(): Promise<void>;
  /** Why frames were wrong, if some were. */
  readonly spoiled: string | undefined;
}

export interface IntakeParts {
  blob: CachedBlob;
  /** Who sends the pieces. */
  name: string;
  context: FetchContext;
  tables(): FrameIndex;
  /** The flight that brings a frame; taken off where there is none. */
  flightOf(frame: number): Flight;
  /** Flights whose bytes were wrong: somebody else must bring them. */
  wrong(flights: Flight[]): void;
  /** The file of the blob takes no data. */
  refused(reason: string): void;
}

/** Bytes of a piece that are handed on between turns of others. */
const SLICE = 1 << 20;

export function createIntake({ blob, name, context, tables, flightOf, wrong, refused }: IntakeParts): Intake {
  const { pool, policy, statistics, log } = context;
  const arrived = (at: number, isProgram: boolean) => context.arrived(blob, at, isProgram);
  const storage = { blob, pool, statistics, name, arrived, refused };
  const assembler = createAssembler();
  const jobs = new Set<Promise<void>>();
  let spoiled: string | undefined;

  function hand(list: Assembled[], file: Pick<SwarmFile, 'fd'> | undefined): void {
    // As the tables are now: others had their turn since the frames were put together.
    const index = tables();
    const bytesOf = new Map<Flight, Uint8Array | undefined>();
    for (const { offset, bytes } of list) {
      const frame = frameBeginning(index, offset);
      if (frame === undefined || isFrameReady(index, blob.ready, frame)) continue;
      const flight = flightOf(frame);
      // Once a file is complete it is hashed: what comes a second time must not be written over it.
      if (!flight.here) bytesOf.set(flight, bytes);
    }
    if (bytesOf.size === 0) return;
    for (const flight of bytesOf.keys()) flight.here = true;
    for (const part of groupFlights([...bytesOf.keys()])) {
      const bytes = file ?? together(part, bytesOf);
      const job = store(part.flights, storePart(storage, part, bytes, 'prefetch'))
        .catch((error) => log('error', 'a piece cannot be stored', { blob: blob.key, error: String(error) }))
        .finally(() => jobs.delete(job));
      jobs.add(job);
    }
  }

  async function store(flights: Flight[], storing: ReturnType<typeof storePart>): Promise<void> {
    const rivals = new Set(flights.flatMap(({ run }) => run ?? []));
    try {
      const bad = await storing;
      if (bad.length > 0) spoiled = bad[0].reason;
    } finally {
      context.changed(blob);
      // The requests that have lost.
      for (const run of rivals) if (run.flights.every((flight) => flight.settled)) run.cancel?.();
      const left = flights.filter((flight) => !flight.settled);
      for (const flight of left) flight.here = false;
      if (left.length > 0) wrong(left);
    }
  }

  return {
    async take(piece, file) {
      const whole = assembler.take(tables(), blob.ready, piece);
      for (let first = 0; first < whole.length; ) {
        let last = first;
        for (let size = 0; last < whole.length && size < SLICE; last++) size += whole[last].size;
        hand(whole.slice(first, last), file);
        first = last;
        await pool.below(policy.backlog);
        await othersTurn();
      }
    },
    async stored() {
      while (jobs.size > 0) await Promise.allSettled(jobs);
    },
    get spoiled() {
      return spoiled;
    },
  };
}

/** Of a part whose flights have their bytes apart. */
function together(
  { start, end, flights }: Part,
  bytesOf: Map<Flight, Uint8Array | undefined>,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(end - start);
  for (const flight of flights) bytes.set(bytesOf.get(flight)!, flight.frame.offset - start);
  return bytes;
}
