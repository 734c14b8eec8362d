import { setTimeout as sleep } from 'node:timers/promises';
import type { CachedBlob } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { Source } from '../sources/source.ts';
import type { Priority } from '../threads/pool.ts';
import { carry, type Outcome } from './carry.ts';
import type { FetchContext } from './context.ts';
import type { Flight, Run } from './flight.ts';
import { cancelled } from './gate.ts';

/** Range requests for the flights of one blob: joined, queued, tried again. */
export interface Requests {
  /** Sends flights on their way, in as few requests as the gaps allow. */
  send(list: Flight[], priority: Priority): void;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

/** @param ending ends what is under way, and fails its flights */
export function createRequests(blob: CachedBlob, source: Source, context: FetchContext, ending: AbortSignal): Requests {
  const { policy, pool, gates, statistics, log } = context;
  const runs = new Set<Promise<void>>();

  return {
    send,
    async ended() {
      while (runs.size > 0) await Promise.allSettled(runs);
    },
  };

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
      leave = await gates[run.priority].enter(source.name, ending);
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
            arrived: (at, isProgram) => context.arrived(blob, at, isProgram),
            refused: (reason) => context.refused(blob, reason),
          },
          list,
          run.priority,
          ending,
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
    await sleep(Math.max(pause, Math.min(asked, policy.deadline)), undefined, { signal: ending }).catch(
      () => undefined,
    );
    if (ending.aborted) for (const flight of again) flight.fail(cancelled());
    const open = again.filter((flight) => !flight.settled);
    const urgent = open.filter((flight) => flight.deadline !== undefined);
    const patient = open.filter((flight) => flight.deadline === undefined);
    if (urgent.length > 0) send(urgent, 'demand');
    if (patient.length > 0) send(patient, 'prefetch');
  }

  function mayTryAgain(flight: Flight, error: unknown): boolean {
    if (ending.aborted) return false;
    if (error instanceof NymphError && !error.retryable) return false;
    // A fault outlives a registry that is away for a while; wrong bytes and prefetch do not get that patience.
    const patient = flight.deadline !== undefined && !(error instanceof NymphError && error.code === 'corrupt');
    return patient ? performance.now() < flight.deadline! : flight.attempts < policy.attempts;
  }
}

function wrongBytes(reason: string | undefined): NymphError {
  return new NymphError('corrupt', `wrong bytes from the source: ${reason}`, { retryable: true });
}
