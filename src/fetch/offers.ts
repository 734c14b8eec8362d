/** Work for the swarm's sake that outlives the blobs it is about, and ends with the daemon. */
export interface Offers {
  add(work: (signal: AbortSignal) => Promise<void>): void;
  /** Ends all; resolves when none is under way any more. */
  close(): Promise<void>;
}

export function createOffers(): Offers {
  const ending = new AbortController();
  const under = new Set<Promise<void>>();
  return {
    add(work) {
      if (ending.signal.aborted) return;
      const done = work(ending.signal).finally(() => under.delete(done));
      under.add(done);
    },
    async close() {
      ending.abort();
      await Promise.allSettled(under);
    },
  };
}
