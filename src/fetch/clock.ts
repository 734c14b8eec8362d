import { setTimeout as pause } from 'node:timers/promises';

/** Time, as the race sees it: tests have one of their own. Milliseconds. */
export interface Clock {
  /** Since any moment. */
  now(): number;
  /** Calls once, after so long; what is returned takes that back. Keeps no process alive. */
  after(milliseconds: number, call: () => void): () => void;
  /** Resolves after so long, or as soon as the signal is aborted. Never rejects. */
  sleep(milliseconds: number, signal?: AbortSignal): Promise<void>;
}

export const SYSTEM_CLOCK: Clock = {
  now: () => performance.now(),
  after(milliseconds, call) {
    const timer = setTimeout(call, milliseconds).unref();
    return () => clearTimeout(timer);
  },
  sleep: (milliseconds, signal) => pause(milliseconds, undefined, { signal }).catch(() => {}),
};
