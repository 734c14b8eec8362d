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
  send(list: Flight[], priority: Priority, patient?: boolean): void;
  /** Sends each as urgently as it is waited for. @param patient of those that nobody waits for: they may as well come by a stream */
  distribute(list: Flight[], patient?: boolean): void;
  /** Resolves when nothing is under way any more. */
  ended(): Promise<void>;
}

/**
 * @param ending ends what is under way, and fails its flights
 * @param yields whether a run whose turn has come is left to another way, which has taken its flights then
 */
export function createRequests(
  blob: CachedBlob,
  source: Source,
  context: FetchContext,
  ending: AbortSignal,
  yields: (run: Run) => boolean,
): Requests {
  const { policy, pool, gates, statistics, race, log } = context;
  const runs = new Set<Promise<void>>();

  return {
    send,
    distribute,
    async ended() {
      while (runs.size > 0) await Promise.allSettled(runs);
    },
  };

  function send(list: Flight[], priority: Priority, patient = false): void {
    list.sort((a, b) => a.frame.offset - b.frame.offset);
    let first = 0;
    for (let i = 1; i <= list.length; i++) {
      const previous = list[i - 1].frame;
      if (i < list.length && list[i].frame.offset - (previous.offset + previous.size) <= policy.gap) continue;
      launch(list.slice(first, i), priority, patient);
      first = i;
    }
  }

  function launch(list: Flight[], priority: Priority, patient: boolean): void {
    const run: Run = { flights: list, priority, started: false, position: list[0].frame.offset, patient };
    for (const flight of list) flight.run = run;
    const travel = travelAll(run).finally(() => runs.delete(travel));
    runs.add(travel);
  }

  async function travelAll(run: Run): Promise<void> {
    let leave: () => void;
    try {
      leave = await enter(run);
    } catch (error) {
      for (const flight of run.flights) flight.fail(error);
      return;
    }
    const list = run.flights.filter((flight) => !flight.settled);
    if (list.length === 0 || yields(run)) return leave();
    run.started = true;
    const abort = new AbortController();
    run.cancel = () => abort.abort();
    ending.addEventListener('abort', run.cancel, { once: true });
    let outcome: Outcome = { bad: [] };
    try {
      const bytes = list.reduce((sum, { frame }) => sum + frame.size, 0);
      race.budget.charge(bytes);
      if (run.patient) race.background.charge(bytes);
      outcome = await carry(
        {
          blob,
          source,
          race,
          pool,
          statistics,
          name: source.name,
          backlog: policy.backlog,
          arrived: (at, isProgram) => context.arrived(blob, at, isProgram),
          refused: (reason) => context.refused(blob, reason),
        },
        list,
        run.priority,
        abort.signal,
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
      ending.removeEventListener('abort', run.cancel);
      run.cancel = undefined;
    }
    context.changed(blob);
    const open = list.filter((flight) => !flight.settled && flight.run === run);
    const left = open.filter(({ here }) => !here);
    // What a stream has brought meanwhile it settles, or sends for again.
    for (const flight of open) if (flight.here) flight.run = undefined;
    if (left.length > 0) await recover(left, list.length, outcome, run.patient);
  }

  /** Waits for a run's turn. It has not started until then: a reader that meets one of its flights takes it out and sends for it. */
  async function enter({ priority, patient }: Run): Promise<() => void> {
    const leave = await gates[priority].enter(source.name, ending);
    if (priority === 'demand') return leave;
    try {
      await race.budget.free(ending);
      if (patient) await race.background.free(ending);
      return leave;
    } catch (error) {
      leave();
      throw error;
    }
  }

  /** Flights that did not arrive, or arrived wrong: another try after a pause, or the end. */
  async function recover(left: Flight[], carried: number, outcome: Outcome, patient: boolean): Promise<void> {
    const error = outcome.error ?? wrongBytes(outcome.badReason);
    const progressed = left.length < carried;
    const again: Flight[] = [];
    for (const flight of left) {
      // Frames behind the place where a stream broke have not failed themselves.
      if (!progressed || outcome.bad.includes(flight)) {
        flight.attempts++;
        if (isWrong(error)) flight.wrong++;
      }
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
    await race.clock.sleep(Math.max(pause, Math.min(asked, policy.deadline)), ending);
    if (ending.aborted) for (const flight of again) flight.fail(cancelled());
    distribute(
      again.filter((flight) => !flight.settled),
      patient,
    );
  }

  function distribute(list: Flight[], patient = false): void {
    const urgent = list.filter((flight) => flight.deadline !== undefined);
    const others = list.filter((flight) => flight.deadline === undefined);
    if (urgent.length > 0) send(urgent, 'demand');
    if (others.length > 0) send(others, 'prefetch', patient);
  }

  function mayTryAgain(flight: Flight, error: unknown): boolean {
    if (ending.aborted) return false;
    if (error instanceof NymphError && !error.retryable) return false;
    // A fault outlives a registry that is away for a while; wrong bytes and prefetch do not get that patience.
    if (flight.deadline === undefined) return flight.attempts < policy.attempts;
    return isWrong(error) ? flight.wrong < policy.attempts : performance.now() < flight.deadline;
  }
}

function isWrong(error: unknown): boolean {
  return error instanceof NymphError && error.code === 'corrupt';
}

function wrongBytes(reason: string | undefined): NymphError {
  return new NymphError('corrupt', `wrong bytes from the source: ${reason}`, { retryable: true });
}
