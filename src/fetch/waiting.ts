import type { Flight } from './flight.ts';
import type { Requests } from './requests.ts';

/** Flights that the stream of their blob is expected to bring, and no request. */
export interface Waiting {
  /** @param delay ms after which they are asked for as well; without one they wait until they are released */
  add(flights: Flight[], delay?: number): void;
  /** Asks for all of them. @param late because the stream is late, and not because it has ended */
  release(late: boolean): void;
}

/** @param source whom the requests go to: for whom it counts if they win */
export function createWaiting(source: { readonly name: string }, requests: Pick<Requests, 'distribute'>): Waiting {
  /** With what ends the wait; they leave when that happens, arrived or not. */
  const groups = new Map<Flight[], NodeJS.Timeout | undefined>();

  function ask(group: Flight[], hedged: boolean): void {
    clearTimeout(groups.get(group));
    groups.delete(group);
    // A fault may have caught up with one that nobody waited for.
    const open = group.filter((flight) => !flight.settled && flight.run === undefined);
    if (hedged) for (const flight of open) flight.hedge = source.name;
    requests.distribute(open, true);
  }

  return {
    add(flights, delay) {
      const timer = delay === undefined ? undefined : setTimeout(() => ask(flights, true), delay);
      groups.set(flights, timer);
      void Promise.allSettled(flights.map(({ arrived }) => arrived)).then(() => {
        if (groups.get(flights) === timer) {
          clearTimeout(timer);
          groups.delete(flights);
        }
      });
    },
    release(late) {
      for (const group of [...groups.keys()]) ask(group, late);
    },
  };
}
