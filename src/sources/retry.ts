import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../errors.ts';

export interface RetryPolicy {
  /** How often in all. */
  attempts: number;
  /** Milliseconds before the second attempt; doubles with each. */
  delay: number;
  /** Longest wait in milliseconds; a longer `retryAfter` ends the attempts. */
  maxDelay: number;
}

export const SMALL_OBJECT_RETRY: RetryPolicy = { attempts: 4, delay: 200, maxDelay: 10_000 };

/**
 * Runs `attempt` until it succeeds, fails with an error that is not retryable, or the policy ends. Waits with
 * jitter, and at least as long as the other side asked.
 */
export async function retry<T>(policy: RetryPolicy, signal: AbortSignal, attempt: () => Promise<T>): Promise<T> {
  for (let tried = 1; ; tried++) {
    try {
      return await attempt();
    } catch (error) {
      if (!(error instanceof NymphError) || !error.retryable || tried >= policy.attempts) throw error;
      const asked = error.retryAfter ?? 0;
      if (asked > policy.maxDelay) throw error;
      const backoff = Math.min(policy.maxDelay, policy.delay * 2 ** (tried - 1));
      await pause(Math.max(asked, backoff * (0.5 + Math.random() / 2)), signal);
    }
  }
}

/** The error of a call whose caller went away. */
export function cancelled(what: string): NymphError {
  return new NymphError('cancelled', `${what}: cancelled`);
}

/** @throws NymphError `cancelled` */
export async function pause(milliseconds: number, signal: AbortSignal): Promise<void> {
  try {
    await sleep(milliseconds, undefined, { signal });
  } catch {
    throw cancelled('waiting for another attempt');
  }
}

/** `promise`, or `cancelled` as soon as `signal` is aborted; for work that several callers share and none may end. */
export function orCancelled<T>(promise: Promise<T>, signal: AbortSignal, what: string): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(cancelled(what));
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}
