import type { Race } from './race.ts';

/** Watches a stream: when nothing comes of it for longer than usual, requests may be sent for what was left to it. */
export interface Lateness {
  /** A piece has come, or the stream begins: time runs from here. */
  restart(): void;
  stop(): void;
  readonly isLate: boolean;
  /** Whether one request may be sent for what is left to the stream; it counts as sent. */
  admit(): boolean;
}

export interface LatenessParts {
  race: Race;
  /** How long a pause is usual, ms. */
  patience(): number;
  /** Whether it is we who are behind: others could not bring more. */
  isBusy(): boolean;
  /** The stream is late: so many requests may be sent for what was left to it. */
  late(requests: number): void;
}

/** Requests at one time for what is left to a stream: 2 to the power of this. */
const MOST_BARKS = 10;

export function createLateness({ race: { clock }, patience, isBusy, late }: LatenessParts): Lateness {
  let cancel = () => {};
  let isLate = false;
  let admitted = 0;

  /** While nothing comes, one request may be sent, then two more, four: a pause is no stall yet. */
  function watch(barked: number): void {
    cancel();
    const time = patience();
    cancel = clock.after(barked === 0 ? time : time / 2, () => {
      if (isBusy()) return watch(barked);
      isLate = true;
      admitted += 2 ** barked;
      late(2 ** barked);
      watch(Math.min(barked + 1, MOST_BARKS));
    });
  }

  return {
    restart() {
      isLate = false;
      admitted = 0;
      watch(0);
    },
    stop() {
      cancel();
    },
    get isLate() {
      return isLate;
    },
    admit() {
      if (admitted === 0) return false;
      admitted--;
      return true;
    },
  };
}
