import { NymphError } from '../errors.ts';

/** Admits so many holders at once; each `enter` gives a function that must be called once to leave. */
export interface Gate {
  enter(signal: AbortSignal): Promise<() => void>;
  readonly busy: number;
  readonly queued: number;
}

/** A counting gate, first come first served. @param width holders at once, at least 1. */
export function createGate(width: number): Gate {
  const queue: (() => void)[] = [];
  let busy = 0;

  function leaver(): () => void {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      busy--;
      queue.shift()?.();
    };
  }

  return {
    get busy() {
      return busy;
    },
    get queued() {
      return queue.length;
    },
    enter(signal) {
      if (signal.aborted) return Promise.reject(cancelled());
      if (busy < width) {
        busy++;
        return Promise.resolve(leaver());
      }
      return new Promise((resolve, reject) => {
        const admit = () => {
          signal.removeEventListener('abort', withdraw);
          busy++;
          resolve(leaver());
        };
        const withdraw = () => {
          queue.splice(queue.indexOf(admit), 1);
          reject(cancelled());
        };
        signal.addEventListener('abort', withdraw, { once: true });
        queue.push(admit);
      });
    },
  };
}

export function cancelled(): NymphError {
  return new NymphError('cancelled', 'the reader went away');
}
