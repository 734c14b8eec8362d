import type { NymphError } from '../errors.ts';
import type { Flight, LooseChunk } from './flight.ts';
import { cancelled } from './gate.ts';

/**
 * Waits for flights.
 * @param deadline until when (`performance.now()`); then those that nobody waits for any longer fail
 * @param late the error for that case
 * @returns the chunks among them that are in memory alone
 */
export function arrival(
  awaited: Flight[],
  deadline: number | undefined,
  signal: AbortSignal,
  late: () => NymphError,
): Promise<LooseChunk[]> {
  if (signal.aborted) return Promise.reject(cancelled());
  if (awaited.length === 0) return Promise.resolve([]);
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      clearTimeout(timer);
      signal.removeEventListener('abort', abort);
      settle();
    };
    const abort = () => end(() => reject(cancelled()));
    const expire = () => {
      const error = late();
      // A request that is stuck must not hold up who asks later.
      for (const flight of awaited) if (flight.deadline! <= deadline! + 1) flight.fail(error);
      end(() => reject(error));
    };
    const timer = deadline && setTimeout(expire, deadline - performance.now());
    signal.addEventListener('abort', abort, { once: true });
    Promise.all(awaited.map((flight) => flight.arrived)).then(
      (parts) => end(() => resolve(parts.flat())),
      (error) => end(() => reject(error)),
    );
  });
}
