import { setImmediate as othersTurn } from 'node:timers/promises';
import type { CachedBlob } from '../cache/cache.ts';
import { setMark } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import { arrival } from './arrival.ts';
import type { FetchContext } from './context.ts';
import { createFailures } from './failures.ts';
import { createFlight, type Flight, type LooseChunk } from './flight.ts';
import { type FrameIndex, frameAt, indexFrames, isFrameReady, missingFrames } from './frame-index.ts';
import { createReferee } from './referee.ts';
import { createRequests } from './requests.ts';
import { countFailure, countFault } from './statistics.ts';
import { createStreams } from './streams.ts';

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
  const { policy, statistics } = context;
  const amplify = () => source.amplify ?? policy.amplify;
  // Frames of files as they stand are large, and what is under way is sooner here than the same bytes once more.
  const detour = blob.digestAlgorithm === 'none' ? policy.prefetchRequest : policy.detour;
  const flights = new Map<number, Flight>();
  const failures = createFailures();
  const streams = createStreams(policy.windowMax, blob.size);
  const ending = new AbortController();
  const requests = createRequests(blob, source, context, ending.signal, (run) => referee?.yields(run) ?? false);
  const referee = createReferee({
    ...{ blob, source, context, requests, ending: ending.signal, tables },
    flightOf: (frame) => flights.get(nameOf(frame)) ?? takeOff(frame, undefined),
  });
  let index = indexFrames(blob.chunks, blob.frames);

  return { need, reached, gather, fill, close };

  function late(): NymphError {
    return new NymphError('timeout', `blob ${blob.key}: nothing came from ${source.name} within ${policy.deadline} ms`);
  }

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
        loose.push(...(await arrival(awaited, deadline, signal, late)));
    } catch (error) {
      // Of a frame of several chunks those that are right count, whatever the tables of another image say of the rest.
      if (missing().length > 0) {
        if (!(error instanceof NymphError && error.code === 'cancelled')) {
          countFailure(statistics, blob.key);
          failures.note(
            awaited.map((flight) => flight.frame.offset),
            error,
          );
        }
        throw error;
      }
    }
    countFault(statistics, blob.key, offset, performance.now() - begun);
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
      const now = referee?.urgent(own) ?? own;
      if (now.length > 0) requests.send([...now, ...followers(wanted[wanted.length - 1])], 'demand');
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
    if (waitedFor || flight.here || run?.priority === 'demand') return;
    if (run === undefined) {
      // Left to the stream by somebody who had time.
      const now = referee?.urgent([flight]) ?? [flight];
      if (now.length > 0) requests.send(now, 'demand');
      return;
    }
    const queued = !run.started;
    const far = flight.frame.offset - run.position > detour;
    if (queued) run.flights.splice(run.flights.indexOf(flight), 1);
    // Under way but far off: a request of its own; whichever comes first counts.
    if (queued || far) requests.send([flight], 'demand');
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
    if (own.length > 0) requests.send(own, 'demand');
    refuseLoose(await arrival([...awaited, ...own], undefined, signal, late));
  }

  /** Puts what is missing of a range on its way, in requests of the policy's size. */
  function prefetch(offset: number, length: number, patient = false, fromEnd = false): Flight[] {
    const missing = missingFrames(tables(), blob.ready, offset, length);
    const begun: Flight[] = [];
    const portions: Flight[][] = [];
    let portion: Flight[] = [];
    let size = 0;
    for (const frame of missing) {
      const known = flights.get(nameOf(frame));
      if (known !== undefined) {
        begun.push(known);
        continue;
      }
      if (portion.length === 0) portions.push(portion);
      const flight = takeOff(frame, undefined);
      begun.push(flight);
      portion.push(flight);
      size += flight.frame.size;
      if (size < policy.prefetchRequest) continue;
      portion = [];
      size = 0;
    }
    if (fromEnd) portions.reverse();
    for (const list of portions) requests.send(list, 'prefetch', patient);
    return begun;
  }

  async function fill(offset: number, length: number, signal: AbortSignal): Promise<void> {
    await referee?.filling();
    // A slice at a time, the next one begun before this one is here: flights hold digests, and blobs have up to 2^24 chunks.
    const slice = 8 * policy.prefetchRequest;
    const slices: Range[] = [];
    for (let at = offset; at < offset + length; at += slice)
      slices.push({ offset: at, length: Math.min(slice, offset + length - at) });
    let before: Promise<LooseChunk[]> = Promise.resolve([]);
    while (slices.length > 0) {
      referee?.want();
      // A stream comes from the start: the two meet in the middle.
      const fromEnd = referee?.streams === true;
      const range = (fromEnd ? slices.pop() : slices.shift())!;
      const current = arrival(prefetch(range.offset, range.length, true, fromEnd), undefined, signal, late);
      current.catch(() => undefined);
      refuseLoose(await before);
      before = current;
      // Of a blob that is here already nothing is waited for: a million chunks took 25 ms in which nobody was answered.
      await othersTurn();
    }
    refuseLoose(await before);
    referee?.filled();
  }

  function refuseLoose(loose: LooseChunk[]): void {
    if (loose.length === 0) return;
    throw new NymphError('cache', `the cache cannot take blob ${blob.key}: the disk is full or not writable`, {
      hint: 'Free space, or lower cache.quota; reads go on from the source meanwhile.',
    });
  }

  async function close(): Promise<void> {
    ending.abort();
    await Promise.all([requests.ended(), referee?.ended()]);
  }
}
