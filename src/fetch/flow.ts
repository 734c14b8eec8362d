import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import type { Swarm, SwarmFile, SwarmStream } from '../sources/swarm.ts';
import { createArrivals } from './arrivals.ts';
import { storedEnd } from './frame-index.ts';
import { createIntake, type IntakeParts } from './intake.ts';
import { createLateness } from './lateness.ts';
import { patience } from './race.ts';
import { countBytes, countEnd, type SourceStatistics, statisticsOf } from './statistics.ts';

/** One stream after the other of a blob, as they come: takes the pieces, tells how far they are, and when they are late. */
export interface Flow {
  /**
   * Opens a stream and takes what it brings.
   * @param open called when it is this stream's turn
   * @returns why it ended early, if it did. Never rejects
   */
  run(open: (signal: AbortSignal) => Promise<SwarmStream>): Promise<unknown>;
  /** Ends the stream that is open. */
  stop(): void;
  readonly active: boolean;
  readonly isLate: boolean;
  /** Stored bytes that the last stream has brought. */
  readonly received: number;
  /** See `Inflow`. */
  admit(): boolean;
  eta(end: number): number;
}

export interface FlowParts extends Omit<IntakeParts, 'name'> {
  source: Source;
  swarm: Swarm;
  ending: AbortSignal;
  isWhole(): boolean;
  /** Whether peers are known to have the blob. */
  hasPeers(): boolean;
  /** A stream's turn has come. */
  begun(): void;
  /** It has ended: nobody should wait for it. */
  ended(): void;
  /** It is late: so many requests may be sent for what was left to it. */
  late(requests: number): void;
}

export function createFlow(parts: FlowParts): Flow {
  const { blob, swarm, context, ending, isWhole } = parts;
  const { race, statistics, pool, policy } = context;
  const { clock } = race;
  let stop: AbortController | undefined;
  let arrivals = createArrivals();
  const lateness = createLateness({
    race,
    patience: () => patience(race, arrivals.received > 0, parts.hasPeers()),
    isBusy: () => pool.backlog > policy.backlog / 8,
    late: parts.late,
  });

  function counts(): SourceStatistics & { from: NonNullable<SourceStatistics['from']> } {
    const found = statisticsOf(statistics, swarm.name);
    found.from ??= { local: 0, peer: 0, seed: 0, origin: 0, unknown: 0 };
    return found as ReturnType<typeof counts>;
  }

  async function run(open: (signal: AbortSignal) => Promise<SwarmStream>): Promise<unknown> {
    const leave = await race.gate.enter(swarm.name, ending).catch(() => undefined);
    if (leave === undefined) return new NymphError('cancelled', 'the blob is being closed');
    const abort = new AbortController();
    const end = () => abort.abort();
    ending.addEventListener('abort', end, { once: true });
    if (ending.aborted) end();
    stop = abort;
    parts.begun();
    arrivals = createArrivals();
    const intake = createIntake({ ...parts, name: swarm.name });
    const count = counts();
    count.requests++;
    let file: SwarmFile | undefined;
    lateness.restart();
    try {
      const begun = clock.now();
      const stream = await open(abort.signal);
      file = stream.file;
      const stored = storedEnd(parts.tables());
      if (stream.size < stored)
        throw new NymphError('corrupt', `${swarm.name} has ${stream.size} bytes of an object of at least ${stored}`);
      await takeAll(stream, begun);
      await intake.stored();
      if (intake.spoiled !== undefined)
        throw new NymphError('corrupt', `wrong bytes from ${swarm.name}: ${intake.spoiled}`);
      if (isWhole()) race.trust.kept();
      countEnd(count, undefined);
      return undefined;
    } catch (error) {
      if (error instanceof NymphError && error.code === 'corrupt') race.trust.lied();
      // Ended because all is here: no failure.
      countEnd(count, error instanceof NymphError && error.code === 'cancelled' ? 'cancelled' : error);
      return error;
    } finally {
      stop = undefined;
      lateness.stop();
      ending.removeEventListener('abort', end);
      abort.abort();
      await intake.stored();
      await file?.close();
      leave();
      parts.ended();
    }

    async function takeAll({ pieces, file }: SwarmStream, begun: number): Promise<void> {
      let progress = begun;
      let done: (() => void) | undefined;
      try {
        for await (const piece of pieces) {
          const now = clock.now();
          (arrivals.received === 0 ? race.start : race.gap).add(now - progress);
          if (arrivals.received === 0) count.latency.add(now - progress);
          done ??= race.streams.begin();
          race.streams.add(piece.length);
          countBytes(statistics, count, swarm.name, blob.key, piece.length);
          count.from[piece.from] += piece.length;
          lateness.restart();
          await intake.take(piece, file);
          arrivals.add(piece.offset, piece.length);
          // What we took to take it is not the swarm's time.
          progress = clock.now();
          lateness.restart();
          if (intake.spoiled !== undefined || isWhole()) break;
        }
      } finally {
        done?.();
      }
    }
  }

  return {
    run,
    stop: () => stop?.abort(),
    get active() {
      return stop !== undefined;
    },
    get isLate() {
      return lateness.isLate;
    },
    get received() {
      return arrivals.received;
    },
    admit: lateness.admit,
    eta(end) {
      if (stop === undefined || lateness.isLate || arrivals.received === 0) return Number.POSITIVE_INFINITY;
      const rate = race.streams.rate();
      const bytes = arrivals.before(end);
      if (rate === undefined || bytes === undefined) return Number.POSITIVE_INFINITY;
      return (bytes * Math.max(1, race.streams.active)) / rate;
    },
  };
}
