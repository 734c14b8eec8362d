/** Time for tests of the race: it passes only when a test lets it, and while nothing else goes on, so that a busy machine changes nothing. */
import { setImmediate as othersTurn } from 'node:timers/promises';
import type { Clock } from '../src/fetch/clock.ts';
import type { ThreadPool } from '../src/threads/pool.ts';

export interface TestClock extends Clock {
  /** Lets time pass until the promise is settled. */
  during<T>(promise: Promise<T>): Promise<T>;
  /** Lets so much time pass, ms. */
  pass(milliseconds: number): Promise<void>;
  /** Lets time pass until it is so. */
  until(condition: () => boolean): Promise<void>;
}

/** Turns of the event loop in which nothing may be under way before time goes on. */
const CALM = 8;
/** Real ms after which nothing is expected to happen any more. */
const PATIENCE = 60_000;

/** @param pool whose work time waits for */
export function testClock(pool: Pick<ThreadPool, 'backlog'>): TestClock {
  const events = new Map<object, { time: number; call: () => void }>();
  let now = 0;

  function after(milliseconds: number, call: () => void): () => void {
    const key = {};
    events.set(key, { time: now + Math.max(0, milliseconds), call });
    return () => void events.delete(key);
  }

  async function calm(): Promise<void> {
    for (let turns = 0; turns < CALM; turns++) {
      await othersTurn();
      if (pool.backlog > 0) turns = -1;
    }
  }

  async function until(condition: () => boolean): Promise<void> {
    for (const end = Date.now() + PATIENCE; !condition(); ) {
      await calm();
      if (condition()) return;
      if (Date.now() > end) throw new Error('it did not happen');
      const [next] = [...events].sort(([, a], [, b]) => a.time - b.time);
      if (next === undefined) continue;
      const [key, { time, call }] = next;
      events.delete(key);
      now = time;
      call();
    }
  }

  function sleep(milliseconds: number, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      if (signal?.aborted) return resolve();
      const end = () => {
        cancel();
        signal?.removeEventListener('abort', end);
        resolve();
      };
      const cancel = after(milliseconds, end);
      signal?.addEventListener('abort', end, { once: true });
    });
  }

  async function during<T>(promise: Promise<T>): Promise<T> {
    let settled = false;
    const end = () => {
      settled = true;
    };
    promise.then(end, end);
    await until(() => settled);
    return promise;
  }

  return { now: () => now, after, sleep, until, during, pass: (milliseconds) => during(sleep(milliseconds)) };
}
