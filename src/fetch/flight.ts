import type { Priority } from '../threads/pool.ts';
import type { Frame } from './frame-index.ts';

/** A verified chunk that could not be written to the cache: it lives as long as its readers. */
export interface LooseChunk {
  offset: number;
  bytes: Uint8Array;
}

/** One frame on its way here. Single flight: whoever needs the frame waits for this, and it is fetched once. */
export interface Flight {
  readonly frame: Frame;
  readonly arrived: Promise<LooseChunk[]>;
  settled: boolean;
  /** Its bytes are here, and are being stored: by nobody else, and it settles no sooner. */
  here: boolean;
  /** A fault waits for it, until this time (`performance.now()`); undefined for prefetch. */
  deadline: number | undefined;
  attempts: number;
  /** How many of them have brought wrong bytes. */
  wrong: number;
  /** The source that was asked because another one was late. */
  hedge: string | undefined;
  /** The run that brings it, while it is queued or under way. */
  run: Run | undefined;
  settle(loose: LooseChunk[]): void;
  /** Of one that is being stored nothing happens: its way has failed, and another has brought it. */
  fail(error: unknown): void;
}

/** Frames that travel in one request. */
export interface Run {
  flights: Flight[];
  priority: Priority;
  started: boolean;
  /** How far its stream has come, in the stored object. */
  position: number;
  /** It fills in what nobody waits for, and may as well come by a stream. */
  patient: boolean;
  /** Ends it; while it is under way. */
  cancel?: () => void;
}

/** @param done called once, when the flight has settled either way. */
export function createFlight(frame: Frame, deadline: number | undefined, done: (flight: Flight) => void): Flight {
  const { promise, resolve, reject } = Promise.withResolvers<LooseChunk[]>();
  // A prefetch that fails has no waiter; a fault has its own handler.
  promise.catch(() => undefined);
  const end = () => {
    flight.settled = true;
    flight.run = undefined;
    done(flight);
  };
  const flight: Flight = {
    frame,
    arrived: promise,
    settled: false,
    here: false,
    deadline,
    attempts: 0,
    wrong: 0,
    hedge: undefined,
    run: undefined,
    settle(loose) {
      if (flight.settled) return;
      end();
      resolve(loose);
    },
    fail(error) {
      if (flight.settled || flight.here) return;
      end();
      reject(error);
    },
  };
  return flight;
}
