import type { CachedBlob } from '../cache/cache.ts';
import type { Source } from '../sources/source.ts';
import type { FetchContext } from './context.ts';
import type { Flight, Run } from './flight.ts';
import { type FrameIndex, storedEnd } from './frame-index.ts';
import { createInflow } from './inflow.ts';
import { hedgeDelay, requestTime } from './race.ts';
import type { Requests } from './requests.ts';
import { statisticsSoFar } from './statistics.ts';
import { createWaiting } from './waiting.ts';

/** Decides for the flights of one blob by which way they come: by a request, or in the stream from the swarm. */
export interface Referee {
  /** Something is wanted. */
  want(): void;
  /** Of flights that a reader waits for, those that a request will bring sooner by all that is known; the others wait for the stream, for a while. */
  urgent(flights: Flight[]): Flight[];
  /** Whether a run whose turn has come, and that nobody waits for, is left to the stream. */
  yields(run: Run): boolean;
  /** A fill begins. Resolves when it can be told whether peers will bring it. */
  filling(): Promise<void>;
  /** Whether there is a stream, which comes from the start of the blob. */
  readonly streams: boolean;
  /** A fill has ended. */
  filled(): void;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

export interface RefereeParts {
  blob: CachedBlob;
  source: Source;
  context: FetchContext;
  requests: Requests;
  ending: AbortSignal;
  tables(): FrameIndex;
  flightOf(frame: number): Flight;
}

/** What a reader may come to next is left to a stream that brings it within so many ms. */
const AHEAD_MS = 300;
/** A reader waits for the budget no longer, ms. */
const MOST_OWED_MS = 5_000;
/** A source whose answers begin within so many ms is quick. */
const QUICK_MS = 25;
/** Of a stream that will take longer it is worth knowing whether requests are faster, ms. */
const TRIAL_MS = 1_000;

/** @returns undefined if there is no swarm: then everything comes by requests */
export function createReferee(parts: RefereeParts): Referee | undefined {
  const { blob, source, context, requests, ending, tables, flightOf } = parts;
  const { race, statistics, policy } = context;
  const { swarm } = race;
  if (swarm === undefined) return undefined;
  const waiting = createWaiting(source, requests, race.clock);
  const inflow = createInflow({
    ...{ blob, source, swarm, context, ending, tables, flightOf },
    wrong: (flights) => requests.distribute(flights.filter(({ run }) => run === undefined)),
    late: waiting.late,
    ended: waiting.release,
  });

  /** The stream is slower than requests are, or may be and there is time to find out: then both bring what they can. */
  function isSlow(): boolean {
    const streams = race.streams.rate();
    if (streams === undefined) return false;
    const direct = race.requests.rate();
    if (direct !== undefined) return streams < 0.9 * direct;
    const eta = inflow.eta(storedEnd(tables()));
    // Of one that has only begun nothing is known; if it does not go on, it is late.
    return Number.isFinite(eta) && eta > TRIAL_MS;
  }

  /** Then decoding a whole blob costs a start more than it gains from it. */
  function isQuick(): boolean {
    const { latency } = statisticsSoFar(statistics, source.name);
    return policy.streamDelay > 0 && race.budget.wait() === 0 && (latency.quantile(0.5) ?? 0) <= QUICK_MS;
  }

  return {
    want: () => inflow.want(),
    urgent(flights) {
      const count = statisticsSoFar(statistics, source.name);
      const owed = race.budget.wait();
      inflow.want(isQuick() ? policy.streamDelay : 0);
      if (owed > 0 && inflow.active) {
        // What many nodes ask of a source at once starves those that would feed the swarm.
        waiting.add(flights, Math.min(owed, MOST_OWED_MS));
        return [];
      }
      if (!inflow.flowing) return flights;
      const isSooner = ({ frame: { offset, size } }: Flight) =>
        inflow.eta(offset + size) < requestTime(race, count, size);
      const left = flights.filter(isSooner);
      if (left.length > 0) waiting.add(left, hedgeDelay(count));
      return left.length === 0 ? flights : flights.filter((flight) => !left.includes(flight));
    },
    yields(run) {
      if (run.priority === 'demand' || !inflow.flowing) return false;
      if (inflow.admit()) return false;
      const list = run.flights.filter((flight) => !flight.settled);
      const { offset, size } = list[list.length - 1].frame;
      if (run.patient ? isSlow() : inflow.eta(offset + size) > AHEAD_MS) return false;
      for (const flight of list) flight.run = undefined;
      waiting.add(list);
      return true;
    },
    async filling() {
      inflow.want();
      await inflow.outlook();
    },
    get streams() {
      return inflow.active;
    },
    filled: inflow.check,
    ended: inflow.ended,
  };
}
