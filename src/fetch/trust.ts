import type { Clock } from './clock.ts';

/**
 * Whether a swarm that has sent wrong bytes is asked again. One piece may be a bad disk of one peer, so it rests for a
 * minute; twice as long with each blob that comes wrong, up to an hour, and half as long with each that comes right.
 */
export interface Trust {
  lied(): void;
  kept(): void;
  readonly isResting: boolean;
}

const FIRST_REST = 60_000;
const DOUBLINGS = 6;

export function createTrust({ now }: Pick<Clock, 'now'>): Trust {
  let lies = 0;
  let until = Number.NEGATIVE_INFINITY;
  return {
    lied() {
      // Streams that were open together are one lie.
      if (now() < until) return;
      until = now() + FIRST_REST * 2 ** lies;
      lies = Math.min(DOUBLINGS, lies + 1);
    },
    kept() {
      lies = Math.max(0, lies - 1);
    },
    get isResting() {
      return now() < until;
    },
  };
}
