import type { Clock } from './clock.ts';
import type { Flight } from './flight.ts';
import type { Requests } from './requests.ts';

/** Flights that the stream of their blob is expected to bring, and no request. */
export interface Waiting {
  /**
   * @param delay ms after which they are asked for as well; without one they wait until they are released
   */
  add(flights: Flight[], delay?: number): void;
  /** The stream is late: asks for so many of those that wait for it without a time of their own, as they were added. */
  late(groups: number): void;
  /** The stream has ended: asks for all. */
  release(): void;
}

/** @param source whom the requests go to: for whom it counts if they win */
export function createWaiting(
  source: { readonly name: string },
  requests: Pick<Requests, 'distribute'>,
  clock: Pick<Clock, 'after'>,
): Waiting {
  /** With what ends the wait; they leave when that happens, arrived or not. */
  const groups = new Map<Flight[], { cancel: (() => void) | undefined }>();

  function ask(group: Flight[], hedged: boolean): void {
    groups.get(group)?.cancel?.();
    groups.delete(group);
    // A fault may have caught up with one that nobody waited for.
    const open = group.filter((flight) => !flight.settled && flight.run === undefined);
    if (hedged) for (const flight of open) flight.hedge = source.name;
    requests.distribute(open, true);
  }

  return {
    add(flights, delay) {
      const group = { cancel: delay === undefined ? undefined : clock.after(delay, () => ask(flights, true)) };
      groups.set(flights, group);
      void Promise.allSettled(flights.map(({ arrived }) => arrived)).then(() => {
        if (groups.get(flights) === group) {
          group.cancel?.();
          groups.delete(flights);
        }
      });
    },
    late(count) {
      const patient = [...groups].filter(([, { cancel }]) => cancel === undefined);
      for (const [flights] of patient.slice(0, count)) ask(flights, true);
    },
    release() {
      for (const flights of [...groups.keys()]) ask(flights, false);
    },
  };
}
