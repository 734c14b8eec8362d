import { type Clock, SYSTEM_CLOCK } from './clock.ts';
import { cancelled } from './gate.ts';

/** Bytes a second that requests may take from sources, so that many nodes that start at once do not bring one down. */
export interface Budget {
  /** What is taken beyond it is owed. */
  charge(bytes: number): void;
  /** Resolves when there is something left, for who can wait; readers are not kept waiting. Rejects when the signal is aborted. */
  free(signal: AbortSignal): Promise<void>;
  /** ms until there is something left; 0 while there is. */
  wait(): number;
}

/** What an idle budget saves up, s. */
const BURST = 1;

/** @param rate bytes a second; without one there is no limit */
export function createBudget(rate: number | undefined, clock: Pick<Clock, 'now' | 'sleep'> = SYSTEM_CLOCK): Budget {
  if (rate === undefined) return { charge() {}, free: async () => {}, wait: () => 0 };
  let left = rate * BURST;
  let at = clock.now();

  function fill(): void {
    const time = clock.now();
    left = Math.min(rate! * BURST, left + (rate! * (time - at)) / 1000);
    at = time;
  }

  function wait(): number {
    fill();
    return left > 0 ? 0 : (1000 * (1 - left)) / rate!;
  }

  return {
    wait,
    charge(bytes) {
      fill();
      left -= bytes;
    },
    async free(signal) {
      for (let time = wait(); time > 0; time = wait()) {
        await clock.sleep(Math.ceil(time), signal);
        if (signal.aborted) throw cancelled();
      }
    },
  };
}
