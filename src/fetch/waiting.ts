import type { Flight } from './flight.ts';
import type { Requests } from './requests.ts';

/** Flights that the stream of their blob is expected to bring, and no request. */
export interface Waiting {
  /**
   * @param delay ms after which they are asked for as well; without one they wait until they are released
   * @param firm they wait that long also where the stream is late
   */
  add(flights: Flight[], delay?: number, firm?: boolean): void;
  /** Asks for them. @param late because the stream is late, and not because it has ended: then not for firm ones */
  release(late: boolean): void;
}

/** @param source whom the requests go to: for whom it counts if they win */
export function createWaiting(source: { readonly name: string }, requests: Pick<Requests, 'distribute'>): Waiting {
  /** With what ends the wait; they leave when that happens, arrived or not. */
  const groups = new Map<Flight[], { timer: NodeJS.Timeout | undefined; firm: boolean }>();

  function ask(group: Flight[], hedged: boolean): void {
    clearTimeout(groups.get(group)?.timer);
    groups.delete(group);
    // A fault may have caught up with one that nobody waited for.
    const open = group.filter((flight) => !flight.settled && flight.run === undefined);
    if (hedged) for (const flight of open) flight.hedge = source.name;
    requests.distribute(open, true);
  }

  return {
    add(flights, delay, firm = false) {
      const timer = delay === undefined ? undefined : setTimeout(() => ask(flights, true), delay);
      const group = { timer, firm };
      groups.set(flights, group);
      void Promise.allSettled(flights.map(({ arrived }) => arrived)).then(() => {
        if (groups.get(flights) === group) {
          clearTimeout(timer);
          groups.delete(flights);
        }
      });
    },
    release(late) {
      for (const [flights, { firm }] of [...groups]) if (!late || !firm) ask(flights, late);
    },
  };
}
