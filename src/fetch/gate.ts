import { NymphError } from '../errors.ts';

/**
 * Admits so many holders at once for each source: one that does not answer must not hold up the readers of others.
 * Each `enter` gives a function that must be called once to leave.
 */
export interface Gate {
  enter(source: string, signal: AbortSignal): Promise<() => void>;
}

interface Line {
  busy: number;
  queue: (() => void)[];
}

/** First come first served. @param width holders at once for one source, at least 1. */
export function createGate(width: number): Gate {
  const lines = new Map<string, Line>();

  function lineOf(source: string): Line {
    let line = lines.get(source);
    if (line === undefined) {
      line = { busy: 0, queue: [] };
      lines.set(source, line);
    }
    return line;
  }

  function leaver(source: string, line: Line): () => void {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      line.busy--;
      line.queue.shift()?.();
      if (line.busy === 0) lines.delete(source);
    };
  }

  return {
    enter(source, signal) {
      if (signal.aborted) return Promise.reject(cancelled());
      const line = lineOf(source);
      if (line.busy < width) {
        line.busy++;
        return Promise.resolve(leaver(source, line));
      }
      return new Promise((resolve, reject) => {
        const admit = () => {
          signal.removeEventListener('abort', withdraw);
          line.busy++;
          resolve(leaver(source, line));
        };
        const withdraw = () => {
          line.queue.splice(line.queue.indexOf(admit), 1);
          reject(cancelled());
        };
        signal.addEventListener('abort', withdraw, { once: true });
        line.queue.push(admit);
      });
    },
  };
}

export function cancelled(): NymphError {
  return new NymphError('cancelled', 'the reader went away');
}
