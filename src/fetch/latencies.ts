/** How long something took, over all of the daemon's life, and lately. Milliseconds. */
export interface Latencies {
  add(milliseconds: number): void;
  /** Of the last 64; `undefined` when there were fewer than 4. */
  quantile(share: number): number | undefined;
  /** How many took at most each of {@link LATENCY_BOUNDS}, and not the one before; the last one: longer. */
  readonly counts: readonly number[];
  readonly sum: number;
}

export const LATENCY_BOUNDS: readonly number[] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000];

const LAST = 64;
const FEWEST = 4;

export function createLatencies(): Latencies {
  const counts: number[] = new Array(LATENCY_BOUNDS.length + 1).fill(0);
  const last: number[] = [];
  /** Sorted when it is asked for. */
  let sorted: number[] | undefined;
  let next = 0;
  let sum = 0;
  return {
    counts,
    get sum() {
      return sum;
    },
    add(milliseconds) {
      const bound = LATENCY_BOUNDS.findIndex((limit) => milliseconds <= limit);
      counts[bound < 0 ? LATENCY_BOUNDS.length : bound]++;
      sum += milliseconds;
      last[next++ % LAST] = milliseconds;
      sorted = undefined;
    },
    quantile(share) {
      if (last.length < FEWEST) return undefined;
      sorted ??= [...last].sort((a, b) => a - b);
      return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
    },
  };
}
