/** How the fetcher spends time, requests and bytes. Times in ms, sizes in bytes. */
export interface FetchPolicy {
  /** A fault that has waited this long ends in EIO. */
  deadline: number;
  /** Times that a frame is asked for before its waiters are told that it cannot be had. */
  attempts: number;
  /** First pause before a retry; doubles, with jitter, up to `maxPause`. */
  pause: number;
  maxPause: number;
  /** Background requests at once. */
  prefetchRequests: number;
  /** A fault's request is extended by the missing frames that follow, up to this many stored bytes. */
  amplify: number;
  /** A fault whose frame is farther ahead in a request under way than this many stored bytes gets a request of its own. */
  detour: number;
  /** Frames are joined in one request over a gap of at most this many stored bytes. */
  gap: number;
  /** Largest window that is kept ahead of a sequential reader, uncompressed bytes. */
  windowMax: number;
  /** Stored bytes of one background request. */
  prefetchRequest: number;
  /** How long a blob's stream from a swarm is put off after the first fault, while its source answers quickly. */
  streamDelay: number;
  /** Stored bytes that may wait for decoding before background requests pause. */
  backlog: number;
}

/** Memory of a node beyond which nothing is scaled down, bytes. */
const PLENTY = 1 << 30;
const SMALLEST_BACKLOG = 4 << 20;
const FEWEST_REQUESTS = 8;

/**
 * What waits for decoding at once, and demand requests at once, for a daemon that may use so many bytes of memory.
 * @param concurrency what was asked for
 */
export function boundsFor(memory: number, concurrency: number): { backlog: number; concurrency: number } {
  const share = Math.min(1, memory / PLENTY);
  return {
    backlog: Math.max(SMALLEST_BACKLOG, Math.floor(DEFAULT_POLICY.backlog * share)),
    // Half of a gigabyte still bears all that are usual: it is chunks of 1 MiB.
    concurrency: Math.max(Math.min(FEWEST_REQUESTS, concurrency), Math.floor(concurrency * Math.min(1, 2 * share))),
  };
}

/** Background requests are smaller where they are limited, so that they come evenly. */
const SMALLEST_PREFETCH = 256 << 10;

/** Stored bytes of one background request, of which four are under way at once. @param rate bytes a second, if there is a limit */
export function prefetchRequestFor(rate: number | undefined): number {
  const { prefetchRequest, prefetchRequests } = DEFAULT_POLICY;
  return rate === undefined
    ? prefetchRequest
    : Math.min(prefetchRequest, Math.max(SMALLEST_PREFETCH, Math.floor(rate / prefetchRequests)));
}

export const DEFAULT_POLICY: FetchPolicy = {
  deadline: 60_000,
  attempts: 6,
  pause: 50,
  maxPause: 5_000,
  prefetchRequests: 4,
  amplify: 2 << 10,
  detour: 160 << 10,
  gap: 8 << 10,
  windowMax: 64 << 20,
  prefetchRequest: 4 << 20,
  streamDelay: 1_000,
  backlog: 32 << 20,
};
