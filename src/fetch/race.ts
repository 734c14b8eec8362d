import type { Swarm } from '../sources/swarm.ts';
import { type Budget, createBudget } from './budget.ts';
import { type Clock, SYSTEM_CLOCK } from './clock.ts';
import { createGate, type Gate } from './gate.ts';
import { createHeadStarts, type HeadStarts } from './head-starts.ts';
import { createLatencies, type Latencies } from './latencies.ts';
import { createMeter, type Meter } from './meter.ts';
import { createOffers, type Offers } from './offers.ts';
import type { SourceStatistics } from './statistics.ts';
import { createTrust, type Trust } from './trust.ts';

/**
 * The race: a chunk comes by a request to its source, or in the stream of its whole blob from a swarm, by whichever is
 * expected to be first. What is measured of the two, over all blobs, is here.
 */
export interface Race {
  readonly swarm: Swarm | undefined;
  /** Large requests. */
  readonly requests: Meter;
  readonly streams: Meter;
  /** Streams at once. */
  readonly gate: Gate;
  /** From the question whether peers have a blob to its answer. */
  readonly look: Latencies;
  /** From a stream's start to its first piece, and between pieces. */
  readonly start: Latencies;
  readonly gap: Latencies;
  readonly budget: Budget;
  /** Of what nobody waits for; within `budget`. */
  readonly background: Budget;
  readonly trust: Trust;
  readonly headStarts: HeadStarts | undefined;
  readonly offers: Offers;
  readonly clock: Clock;
  /** Whether the swarm is worth being asked. */
  isOpen(): boolean;
  /** Ends what is under way for the swarm's own sake. */
  close(): Promise<void>;
}

/** Each holds two pieces of up to 64 MiB. */
const STREAMS = 4;
/** Requests of so many bytes say how fast the source is; smaller ones how soon it answers. */
export const LARGE = 1 << 20;

export interface RaceOptions {
  /** Bytes a second that may come by requests; without one there is no limit. */
  budget?: number;
  /** The same for what nobody waits for. */
  background?: number;
  clock?: Clock;
}

export function createRace(swarm?: Swarm, { budget, background, clock = SYSTEM_CLOCK }: RaceOptions = {}): Race {
  const trust = createTrust(clock);
  const offers = createOffers();
  return {
    swarm,
    requests: createMeter(clock),
    streams: createMeter(clock),
    gate: createGate(STREAMS),
    look: createLatencies(),
    start: createLatencies(),
    gap: createLatencies(),
    budget: createBudget(budget, clock),
    background: createBudget(background, clock),
    trust,
    headStarts: swarm && createHeadStarts(swarm, clock),
    offers,
    clock,
    isOpen: () => swarm?.available() === true && !trust.isResting,
    close: offers.close,
  };
}

/** While nothing is known of a source, it is taken to be quick: 10 ms, 50 MB/s. */
const GUESS = { latency: 10, rate: 50_000 };

/** ms until a request for so many stored bytes will be answered, by what was measured. */
export function requestTime({ requests, budget }: Race, { latency }: SourceStatistics, size: number): number {
  const perTransfer = (requests.rate() ?? GUESS.rate) / Math.max(1, requests.active);
  return budget.wait() + (latency.quantile(0.5) ?? GUESS.latency) + size / perTransfer;
}

/** ms after which who waits for the stream asks the source as well: what its slowest answers take. */
export function hedgeDelay({ latency }: SourceStatistics): number {
  return Math.min(1_000, Math.max(5, latency.quantile(0.95) ?? GUESS.latency));
}

/** ms that a fill waits for the answer whether peers have a blob. A daemon that is well gives the first one in 10 to 15. */
export function lookTime({ look }: Race): number {
  return Math.min(100, Math.max(10, 1.5 * (look.quantile(0.95) ?? 20)));
}

/**
 * ms without a piece after which what nobody waits for is not left to the stream any longer. Readers do not wait that long
 * ({@link hedgeDelay}); asked too soon, a quick source sends again what is on its way.
 * @param begun whether a piece has come @param hasPeers whether peers were found to have the blob a moment ago
 */
export function patience({ start, gap }: Race, begun: boolean, hasPeers: boolean): number {
  const usual = begun ? (gap.quantile(0.95) ?? 100) : (start.quantile(0.95) ?? 150);
  return Math.min(1_000, Math.max(hasPeers ? (begun ? 250 : 400) : 150, 2 * usual));
}
