import { setImmediate as othersTurn, setTimeout as sleep } from 'node:timers/promises';
import type { CachedBlob } from '../cache/cache.ts';
import { setMark } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import type { Priority, ThreadPool } from '../threads/pool.ts';
import { carry, type Outcome } from './carry.ts';
import { createFailures } from './failures.ts';
import { createFlight, type Flight, type LooseChunk, type Run } from './flight.ts';
import { type FrameIndex, frameAt, indexFrames, isFrameReady, missingFrames } from './frame-index.ts';
import { cancelled, type Gate } from './gate.ts';
import type { FetchPolicy } from './policy.ts';
import { countFault, type FetchStatistics } from './statistics.ts';
import { createStreams } from './streams.ts';

/** What all fetchers of a daemon share. */
export interface FetchContext {
  policy: FetchPolicy;
  pool: ThreadPool;
  gates: Record<Priority, Gate>;
  statistics: FetchStatistics;
  log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: object) => void;
  /** Bits of the blob's map have changed. */
  changed: (blob: CachedBlob) => void;
  /** The file of the blob took no data. */
  refused: (blob: CachedBlob, reason: string) => void;
  /** A chunk that begins like a program has arrived. */
  program: (blob: CachedBlob, offset: number) => void;
}

/** Brings the chunks of one blob here: single flight, neighbours joined, demand before prefetch. */
export interface BlobFetcher {
  /**
   * Resolves when every chunk of `[offset, offset + length)` is in the file, or among the chunks returned (a full disk).
   * Rejects with 'timeout' after the policy's deadline, 'cancelled' when `signal` aborts, or why it cannot be had.
   */
  need(offset: number, length: number, signal: AbortSignal): Promise<LooseChunk[]>;
  /** A reader has come to a mark: looks further ahead. */
  reached(offset: number): void;
  /** Sends for what is missing of ranges, as urgently as a fault and in as few requests; resolves when it is here. */
  gather(ranges: readonly Range[], signal: AbortSignal): Promise<void>;
  /** Fetches what is missing of a range in the background; resolves when it is here. */
  fill(offset: number, length: number, signal: AbortSignal): Promise<void>;
  /** Waits until nothing writes to the blob any more. */
  close(): Promise<void>;
}

/** Of a blob in its uncompressed address space, bytes. */
export interface Range {
  offset: number;
  length: number;
}

export function createFetcher(blob: CachedBlob, source: Source, context: FetchContext): BlobFetcher {
  const { policy, pool, gates, statistics, log } = context;
  const amplify = () => source.amplify ?? policy.amplify;
  const flights = new Map<number, Flight>();
  const failures = createFailures();
  const streams = createStreams(policy.windowMax, blob.size);
  const ending = new AbortController();
  const runs = new Set<Promise<void>>();
  let index = indexFrames(blob.chunks, blob.frames);

  return { need, reached, gather, fill, close };

  function tables(): FrameIndex {
    // Another image may have added chunks to the ledger.
    if (index.chunks !== blob.chunks) index = indexFrames(blob.chunks, blob.frames);
    return index;
  }

  async function need(offset: number, length: number, signal: AbortSignal): Promise<LooseChunk[]> {
    const begun = performance.now();
    const deadline = begun + policy.deadline;
    const loose: LooseChunk[] = [];
    const missing = () => missingFrames(tables(), blob.ready, offset, length, loose);
    const first = missing();
    const failure = failures.recent(first.map(nameOf));
    if (failure !== undefined) throw failure;
    let awaited = demand(first, deadline);
    lookAhead(offset, length);
    try {
      // Mostly once. A frame that took off before another image added a chunk to it arrives without that chunk.
      for (; awaited.length > 0; awaited = demand(missing(), deadline))
        loose.push(...(await arrival(awaited, deadline, signal)));
    } catch (error) {
      // Of a frame of several chunks those that are right count, whatever the tables of another image say of the rest.
      if (missing().length > 0) {
        if (!(error instanceof NymphError && error.code === 'cancelled')) {
          statistics.failed++;
          failures.note(
            awaited.map((flight) => flight.frame.offset),
            error,
          );
        }
        throw error;
      }
    }
    countFault(statistics, performance.now() - begun);
    return loose;
  }

  function nameOf(frame: number): number {
    return index.frames.offset[frame];
  }

  /** Sends for frames that a reader waits for. @param missing positions in the tables as they are now @returns the flights that bring them. */
  function demand(missing: number[], deadline: number): Flight[] {
    const awaited: Flight[] = [];
    const wanted: number[] = [];
    for (const frame of missing) {
      const flight = flights.get(nameOf(frame));
      if (flight === undefined) wanted.push(frame);
      else {
        awaited.push(flight);
        hurry(flight, deadline);
      }
    }
    if (wanted.length > 0) {
      const own = wanted.map((frame) => takeOff(frame, deadline));
      awaited.push(...own);
      send([...own, ...followers(wanted[wanted.length - 1])], 'demand');
    }
    return awaited;
  }

  function takeOff(frame: number, deadline: number | undefined): Flight {
    const flight = createFlight(frameAt(index, frame), deadline, (settled) => {
      flights.delete(settled.frame.offset);
    });
    flights.set(flight.frame.offset, flight);
    return flight;
  }

  /** A fault meets a frame that is on its way: it must not wait for what was only prefetch. */
  function hurry(flight: Flight, deadline: number): void {
    const { run } = flight;
    const waitedFor = flight.deadline !== undefined;
    flight.deadline = Math.max(flight.deadline ?? 0, deadline);
    if (waitedFor || run === undefined || run.priority === 'demand') return;
    const queued = !run.started;
    const far = flight.frame.offset - run.position > policy.detour;
    if (queued) run.flights.splice(run.flights.indexOf(flight), 1);
    // Under way but far off: a request of its own; whichever comes first counts.
    if (queued || far) send([flight], 'demand');
  }

  /**
   * Missing frames behind a wanted one: likely read next, and they cost no round trip of their own. Those before it are
   * not worth their bytes: a cold start of Python takes 23 requests with 16 KiB behind, and with 16 KiB on each side too.
   */
  function followers(frame: number): Flight[] {
    const { frames } = index;
    const most = amplify();
    const found: Flight[] = [];
    // A large chunk is a piece of a large file, and what follows is its rest or nothing to do with it.
    if (frames.size[frame] > most) return found;
    const start = frames.offset[frame] + frames.size[frame];
    let edge = start;
    for (let next = frame + 1; next < frames.count; next++) {
      const end = frames.offset[next] + frames.size[next];
      if (frames.offset[next] - edge > policy.gap || end - start > most || flights.has(frames.offset[next])) break;
      edge = end;
      if (!isFrameReady(index, blob.ready, next)) found.push(takeOff(next, undefined));
    }
    return found;
  }

  /** Sends flights on their way, in as few requests as the gaps allow. */
  function send(list: Flight[], priority: Priority): void {
    list.sort((a, b) => a.frame.offset - b.frame.offset);
    let first = 0;
    for (let i = 1; i <= list.length; i++) {
      const previous = list[i - 1].frame;
      if (i < list.length && list[i].frame.offset - (previous.offset + previous.size) <= policy.gap) continue;
      launch(list.slice(first, i), priority);
      first = i;
    }
  }

  function launch(list: Flight[], priority: Priority): void {
    const run: Run = { flights: list, priority, started: false, position: list[0].frame.offset };
    for (const flight of list) flight.run = run;
    const travel = travelAll(run).finally(() => runs.delete(travel));
    runs.add(travel);
  }

  async function travelAll(run: Run): Promise<void> {
    let leave: () => void;
    try {
      leave = await gates[run.priority].enter(source.name, ending.signal);
    } catch (error) {
      for (const flight of run.flights) flight.fail(error);
      return;
    }
    run.started = true;
    const list = run.flights.filter((flight) => !flight.settled);
    let outcome: Outcome = { bad: [] };
    try {
      if (list.length > 0)
        outcome = await carry(
          {
            blob,
            source,
            pool,
            statistics,
            backlog: policy.backlog,
            program: (at) => context.program(blob, at),
            refused: (reason) => context.refused(blob, reason),
          },
          list,
          run.priority,
          ending.signal,
          (position) => {
            run.position = position;
            // Frames that are here already must outlive a crash in the midst of a long request.
            context.changed(blob);
          },
        );
    } catch (error) {
      outcome = { error, bad: [] };
    } finally {
      leave();
    }
    if (list.length === 0) return;
    context.changed(blob);
    const left = list.filter((flight) => !flight.settled && flight.run === run);
    if (left.length > 0) await recover(left, list.length, outcome);
  }

  /** Flights that did not arrive, or arrived wrong: another try after a pause, or the end. */
  async function recover(left: Flight[], carried: number, outcome: Outcome): Promise<void> {
    const error = outcome.error ?? wrongBytes(outcome.badReason);
    const progressed = left.length < carried;
    const again: Flight[] = [];
    for (const flight of left) {
      // Frames behind the place where a stream broke have not failed themselves.
      if (!progressed || outcome.bad.includes(flight)) flight.attempts++;
      if (mayTryAgain(flight, error)) again.push(flight);
      else flight.fail(error);
    }
    log(again.length > 0 ? 'warn' : 'error', again.length > 0 ? 'fetch failed, trying again' : 'fetch failed', {
      blob: blob.key,
      source: source.name,
      offset: left[0].frame.offset,
      frames: left.length,
      attempt: left[0].attempts,
      error: (error as Error).message,
    });
    if (outcome.bad.length > 0 && outcome.stream !== undefined) source.distrust?.(outcome.stream);
    if (again.length === 0) return;
    statistics.retries++;
    const attempt = Math.max(1, ...again.map((flight) => flight.attempts));
    const pause = Math.min(policy.pause * 2 ** (attempt - 1), policy.maxPause) * (0.5 + Math.random() / 2);
    const asked = error instanceof NymphError ? (error.retryAfter ?? 0) : 0;
    await sleep(Math.max(pause, Math.min(asked, policy.deadline)), undefined, { signal: ending.signal }).catch(
      () => undefined,
    );
    if (ending.signal.aborted) for (const flight of again) flight.fail(cancelled());
    const open = again.filter((flight) => !flight.settled);
    const urgent = open.filter((flight) => flight.deadline !== undefined);
    const patient = open.filter((flight) => flight.deadline === undefined);
    if (urgent.length > 0) send(urgent, 'demand');
    if (patient.length > 0) send(patient, 'prefetch');
  }

  function mayTryAgain(flight: Flight, error: unknown): boolean {
    if (ending.signal.aborted) return false;
    if (error instanceof NymphError && !error.retryable) return false;
    // A fault outlives a registry that is away for a while; wrong bytes and prefetch do not get that patience.
    const patient = flight.deadline !== undefined && !(error instanceof NymphError && error.code === 'corrupt');
    return patient ? performance.now() < flight.deadline! : flight.attempts < policy.attempts;
  }

  function arrival(awaited: Flight[], deadline: number | undefined, signal: AbortSignal): Promise<LooseChunk[]> {
    if (signal.aborted) return Promise.reject(cancelled());
    if (awaited.length === 0) return Promise.resolve([]);
    return new Promise((resolve, reject) => {
      const end = (settle: () => void) => {
        clearTimeout(timer);
        signal.removeEventListener('abort', abort);
        settle();
      };
      const abort = () => end(() => reject(cancelled()));
      const late = () => {
        const error = new NymphError(
          'timeout',
          `blob ${blob.key}: nothing came from ${source.name} within ${policy.deadline} ms`,
        );
        // A request that is stuck must not hold up who asks later.
        for (const flight of awaited) if (flight.deadline! <= deadline! + 1) flight.fail(error);
        end(() => reject(error));
      };
      const timer = deadline && setTimeout(late, deadline - performance.now());
      signal.addEventListener('abort', abort, { once: true });
      Promise.all(awaited.map((flight) => flight.arrived)).then(
        (parts) => end(() => resolve(parts.flat())),
        (error) => end(() => reject(error)),
      );
    });
  }

  function reached(offset: number): void {
    lookAhead(offset, 1);
  }

  function lookAhead(offset: number, length: number): void {
    const ahead = streams.seen(offset, length);
    if (ahead === undefined) return;
    setMark(blob.ready, ahead.mark);
    prefetch(ahead.from, ahead.to - ahead.from);
  }

  async function gather(ranges: readonly Range[], signal: AbortSignal): Promise<void> {
    const awaited: Flight[] = [];
    const own: Flight[] = [];
    for (const { offset, length } of ranges) {
      for (const frame of missingFrames(tables(), blob.ready, offset, length)) {
        const known = flights.get(nameOf(frame));
        if (known === undefined) own.push(takeOff(frame, undefined));
        else awaited.push(known);
      }
    }
    if (own.length > 0) send(own, 'demand');
    refuseLoose(await arrival([...awaited, ...own], undefined, signal));
  }

  /** Puts what is missing of a range on its way, in requests of the policy's size. */
  function prefetch(offset: number, length: number): Flight[] {
    const missing = missingFrames(tables(), blob.ready, offset, length);
    const begun: Flight[] = [];
    let portion: Flight[] = [];
    let size = 0;
    for (const frame of missing) {
      const known = flights.get(nameOf(frame));
      if (known !== undefined) {
        begun.push(known);
        continue;
      }
      const flight = takeOff(frame, undefined);
      begun.push(flight);
      portion.push(flight);
      size += flight.frame.size;
      if (size < policy.prefetchRequest) continue;
      send(portion, 'prefetch');
      portion = [];
      size = 0;
    }
    if (portion.length > 0) send(portion, 'prefetch');
    return begun;
  }

  async function fill(offset: number, length: number, signal: AbortSignal): Promise<void> {
    // A slice at a time, the next one begun before this one is here: flights hold digests, and blobs have up to 2^24 chunks.
    const slice = 8 * policy.prefetchRequest;
    let before: Promise<LooseChunk[]> = Promise.resolve([]);
    for (let at = offset; at < offset + length; at += slice) {
      const current = arrival(prefetch(at, Math.min(slice, offset + length - at)), undefined, signal);
      current.catch(() => undefined);
      refuseLoose(await before);
      before = current;
      // Of a blob that is here already nothing is waited for: a million chunks took 25 ms in which nobody was answered.
      await othersTurn();
    }
    refuseLoose(await before);
  }

  function refuseLoose(loose: LooseChunk[]): void {
    if (loose.length === 0) return;
    throw new NymphError('cache', `the cache cannot take blob ${blob.key}: the disk is full or not writable`, {
      hint: 'Free space, or lower cache.quota; reads go on from the source meanwhile.',
    });
  }

  async function close(): Promise<void> {
    ending.abort();
    while (runs.size > 0) await Promise.allSettled(runs);
  }
}

function wrongBytes(reason: string | undefined): NymphError {
  return new NymphError('corrupt', `wrong bytes from the source: ${reason}`, { retryable: true });
}
