import { setTimeout as sleep } from 'node:timers/promises';
import { coveredBlocks } from '../cache/readiness.ts';
import { countReady } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import type { Swarm, SwarmObject } from '../sources/swarm.ts';
import { createArrivals } from './arrivals.ts';
import { storedEnd } from './frame-index.ts';
import { createIntake, type IntakeParts } from './intake.ts';
import { offer } from './offer.ts';
import { lookTime, patience } from './race.ts';
import { countBytes, type SourceStatistics, statisticsOf } from './statistics.ts';

/** The stream of one whole blob from a swarm: opened when the blob is first wanted, opened again when it breaks. */
export interface Inflow {
  /** Something of the blob is wanted: opens the stream, if there is none and it is worth it, after so many ms at most. */
  want(delay?: number): void;
  /** Resolves when it is known whether peers have the blob, or cannot be told soon. */
  outlook(): Promise<void>;
  /** Whether there is a stream. */
  readonly active: boolean;
  /** Whether the stream can be relied on for what nobody waits for: pieces come, or are about to. */
  readonly flowing: boolean;
  /** Whether one request may be sent for what is left to the stream, because that is late; it counts as sent. */
  admit(): boolean;
  /** ms until stored bytes before `end` will have come; `Infinity` if they are not to be expected. */
  eta(end: number): number;
  /** Whether the blob is whole: then the stream is ended. */
  check(): void;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

export interface InflowParts extends Omit<IntakeParts, 'name' | 'refused'> {
  source: Source;
  swarm: Swarm;
  ending: AbortSignal;
  /** Whether the source answers so soon that nothing is gained by a stream that competes with it. */
  isQuick(): boolean;
  /** The stream is late: so many requests may be sent for what was left to it. */
  late(requests: number): void;
  /** The stream has ended: nobody should wait for it. */
  ended(): void;
}

/** A smaller object costs its source no more than the question who has it. */
const SMALLEST = 1 << 20;
/** Pauses between attempts, ms. */
const PAUSE = 150;
const MAX_PAUSE = 30_000;
/** Attempts without a piece, after which the blob rests. */
const ATTEMPTS = 10;

export function createInflow(parts: InflowParts): Inflow {
  const { blob, source, swarm, context, ending } = parts;
  const { race, statistics, pool, policy, log } = context;
  const object: SwarmObject = {
    digest: blob.digest,
    location: async (signal, refused) => source.location?.(signal, refused),
  };
  let running: Promise<void> | undefined;
  /** Of the stream that is open. */
  let stop: AbortController | undefined;
  let arrivals = createArrivals();
  let progress = 0;
  let watchdog: NodeJS.Timeout | undefined;
  let deferred: NodeJS.Timeout | undefined;
  let isLate = false;
  /** Requests that may be sent for what is left to the stream, because it is late. */
  let admitted = 0;
  /** Whether peers have the blob. */
  let peers: boolean | undefined;
  /** Settled when the stream is there, or is put off. */
  let begun = Promise.withResolvers<void>();
  let useless = false;
  let restUntil = 0;
  let covered: { chunks: unknown; blocks: number } | undefined;

  function counts(): SourceStatistics & { from: NonNullable<SourceStatistics['from']> } {
    const found = statisticsOf(statistics, swarm.name);
    found.from ??= { local: 0, peer: 0, seed: 0, origin: 0, unknown: 0 };
    return found as ReturnType<typeof counts>;
  }

  function isWhole(): boolean {
    if (covered?.chunks !== blob.chunks) covered = { chunks: blob.chunks, blocks: coveredBlocks(blob.chunks) };
    return countReady(blob.ready) >= covered.blocks;
  }

  function want(delay = 0): void {
    if (running !== undefined || useless || ending.aborted || !swarm.available()) return;
    if (delay > 0) {
      deferred ??= setTimeout(() => {
        // Whatever comes of it: who wants something later must be able to put it off again.
        deferred = undefined;
        want();
      }, delay).unref();
      return;
    }
    clearTimeout(deferred);
    deferred = undefined;
    if (performance.now() < restUntil || storedEnd(parts.tables()) < SMALLEST || isWhole()) return;
    begun = Promise.withResolvers<void>();
    running = keepUp()
      .catch((error) => {
        if (!ending.aborted) log('error', 'the stream of a blob failed', { blob: blob.key, error: String(error) });
      })
      .finally(() => {
        running = undefined;
        begun.resolve();
      });
  }

  /** Streams, again after a pause where that breaks, until the blob is whole or it is of no use. */
  async function keepUp(): Promise<void> {
    await lookAround();
    if (peers === false && parts.isQuick()) {
      begun.resolve();
      // The blob, and who knows where it is, may be closed when it is time.
      const location = await object.location(ending, false);
      // Who would seed it now would take from the source what we get from there.
      await pause(policy.streamDelay);
      if (isWhole()) {
        void offer(swarm, { ...object, location: async () => location }, log);
        return;
      }
      await lookAround();
    }
    for (let failures = 0; !ending.aborted && swarm.available(); ) {
      const error = await attempt();
      if (error === undefined || ending.aborted || isWhole() || performance.now() < restUntil) return;
      failures = arrivals.received > 0 ? 1 : failures + 1;
      useless = !(error instanceof NymphError && error.retryable);
      // A layout on this disk is nothing for a swarm: no news.
      const isNews = useless && !(error instanceof NymphError && error.code === 'unsupported');
      log(isNews ? 'warn' : 'debug', useless ? 'a blob comes without the swarm from now on' : 'a stream ended early', {
        blob: blob.key,
        source: swarm.name,
        received: arrivals.received,
        error: (error as Error).message,
      });
      if (useless) return;
      if (failures >= ATTEMPTS) {
        restUntil = performance.now() + MAX_PAUSE;
        return;
      }
      const asked = error instanceof NymphError ? (error.retryAfter ?? 0) : 0;
      await pause(Math.min(MAX_PAUSE, Math.max(PAUSE * 2 ** (failures - 1), asked)));
      // A swarm that has gone is found again by whoever wants something of the blob.
      await lookAround();
    }
  }

  /** About so many ms, or until the end. */
  async function pause(milliseconds: number): Promise<void> {
    await sleep(milliseconds * (0.75 + Math.random() / 2), undefined, { signal: ending }).catch(() => {});
  }

  /** Finds out whether peers have the blob, if that can be told soon. */
  async function lookAround(): Promise<void> {
    const asked = performance.now();
    peers = undefined;
    const answer = swarm.look(object).then((found) => {
      peers = found;
      if (found !== undefined) race.look.add(performance.now() - asked);
    });
    await Promise.race([answer, sleep(lookTime(race))]);
  }

  /** One stream. @returns why it ended early, if it did */
  async function attempt(): Promise<unknown> {
    const leave = await race.gate.enter(swarm.name, ending);
    const abort = new AbortController();
    const end = () => abort.abort();
    ending.addEventListener('abort', end, { once: true });
    if (ending.aborted) end();
    stop = abort;
    begun.resolve();
    arrivals = createArrivals();
    const intake = createIntake({ ...parts, name: swarm.name, refused });
    isLate = false;
    admitted = 0;
    progress = performance.now();
    const count = counts();
    count.requests++;
    watch();
    let done: (() => void) | undefined;
    try {
      const { size, pieces } = await swarm.open(object, abort.signal);
      const end = storedEnd(parts.tables());
      if (size < end)
        throw new NymphError('corrupt', `${swarm.name} has ${size} bytes of an object of at least ${end}`);
      for await (const piece of pieces) {
        const now = performance.now();
        (arrivals.received === 0 ? race.start : race.gap).add(now - progress);
        if (arrivals.received === 0) count.latency.add(now - progress);
        done ??= race.streams.begin();
        race.streams.add(piece.bytes.length);
        countBytes(statistics, count, swarm.name, blob.key, piece.bytes.length);
        count.from[piece.from] += piece.bytes.length;
        isLate = false;
        admitted = 0;
        await intake.take(piece);
        arrivals.add(piece.offset, piece.bytes.length);
        // What we took to take it is not the swarm's time.
        progress = performance.now();
        watch();
        if (intake.spoiled !== undefined || isWhole()) break;
      }
      await intake.stored();
      if (intake.spoiled !== undefined)
        throw new NymphError('corrupt', `wrong bytes from ${swarm.name}: ${intake.spoiled}`);
      count.ended.ok++;
      return undefined;
    } catch (error) {
      // Ended because all is here: no failure.
      const isCancelled = error instanceof NymphError && error.code === 'cancelled';
      if (!isCancelled) count.errors++;
      count.ended[isCancelled ? 'cancelled' : 'error']++;
      return error;
    } finally {
      done?.();
      stop = undefined;
      clearTimeout(watchdog);
      ending.removeEventListener('abort', end);
      abort.abort();
      await intake.stored();
      leave();
      parts.ended();
    }
  }

  function refused(reason: string): void {
    context.refused(blob, reason);
    // Nothing can be kept: a stream would only be read and dropped.
    restUntil = performance.now() + MAX_PAUSE;
    stop?.abort();
  }

  /** Arms the watchdog. While nothing comes, one request after it barks, then two more, four: a pause is no stall yet. */
  function watch(barked = 0): void {
    clearTimeout(watchdog);
    const time = patience(race, arrivals.received > 0);
    watchdog = setTimeout(
      () => {
        // It is we who are behind: others could not bring more.
        if (pool.backlog > policy.backlog / 8) return watch(barked);
        isLate = true;
        admitted += 2 ** barked;
        parts.late(2 ** barked);
        watch(Math.min(barked + 1, 10));
      },
      barked === 0 ? time : time / 2,
    );
    watchdog.unref();
  }

  return {
    want,
    async outlook() {
      if (running !== undefined) await Promise.race([begun.promise, sleep(2 * lookTime(race))]);
    },
    get active() {
      return stop !== undefined;
    },
    get flowing() {
      if (stop === undefined || (isLate && peers !== true)) return false;
      return arrivals.received > 0 || peers === true;
    },
    admit() {
      if (admitted === 0) return false;
      admitted--;
      return true;
    },
    eta(end) {
      if (stop === undefined || isLate || arrivals.received === 0) return Number.POSITIVE_INFINITY;
      const rate = race.streams.rate();
      const bytes = arrivals.before(end);
      if (rate === undefined || bytes === undefined) return Number.POSITIVE_INFINITY;
      return (bytes * Math.max(1, race.streams.active)) / rate;
    },
    check() {
      if (stop !== undefined && isWhole()) stop.abort();
    },
    async ended() {
      clearTimeout(deferred);
      await running;
    },
  };
}
