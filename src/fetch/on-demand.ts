import type { CachedBlob } from '../cache/cache.ts';
import { isReady } from '../cache/ready-map.ts';
import type { BlobFetcher } from './fetcher.ts';
import { SMALLEST } from './inflow.ts';

/**
 * A fetcher that is made when it is first needed, and given up when a small blob is whole: a model may have thousands of files, of
 * which few are read at a time, and a fetcher takes 8 kB. Those of larger blobs may have something to do for the swarm.
 */
export function fetcherOnDemand({ size, ready }: CachedBlob, create: () => BlobFetcher): BlobFetcher {
  let made: BlobFetcher | undefined;
  const ending = new Set<Promise<void>>();
  let using = 0;
  let closed = false;

  async function use<T>(work: (fetcher: BlobFetcher) => Promise<T>): Promise<T> {
    made ??= create();
    if (closed) end(made);
    using++;
    try {
      return await work(made);
    } finally {
      using--;
      if (using === 0 && made !== undefined && size < SMALLEST && isReady(ready, 0, size)) {
        end(made);
        made = undefined;
      }
    }
  }

  function end(fetcher: BlobFetcher): void {
    const ended = fetcher.close().finally(() => ending.delete(ended));
    ending.add(ended);
  }

  return {
    need: (offset, length, signal) => use((fetcher) => fetcher.need(offset, length, signal)),
    // Marks are set by fetchers alone.
    reached: (offset) => made?.reached(offset),
    gather: (ranges, signal) => use((fetcher) => fetcher.gather(ranges, signal)),
    fill: (offset, length, signal) => use((fetcher) => fetcher.fill(offset, length, signal)),
    async close() {
      closed = true;
      if (made !== undefined) end(made);
      await Promise.all(ending);
    },
  };
}
