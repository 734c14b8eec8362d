import type { Live, LiveImage } from '../../daemon/api.ts';

/** What happened between two looks at a daemon. Rates are a second; bytes are stored ones where they come from sources. */
export interface Rates {
  /** Unix time of the second look, ms, and seconds between the two. */
  time: number;
  seconds: number;
  reads: {
    /** Answered from the cache, and waited for. */
    hits: number;
    faults: number;
    hitBytes: number;
    /** Now. */
    waiting: number;
  };
  /** Of the faults in between, ms; absent where there was none. Upper bounds, as far as the daemon counts. */
  faultMs: { p50: number; p99: number } | undefined;
  /** How many of the faults in between took at most each bound, ms, and not the one before. */
  latency: { bounds: readonly number[]; counts: number[] };
  failed: number;
  retries: number;
  sources: SourceRate[];
  images: ImageRate[];
}

export interface SourceRate {
  name: string;
  bytes: number;
  requests: number;
  errors: number;
  /** Bytes since the daemon's start, and ms to the first byte lately. */
  total: number;
  firstByteMs?: number;
}

export interface ImageRate extends Pick<LiveImage, 'reference' | 'digest' | 'kind' | 'mounts' | 'size' | 'ready'> {
  faults: number;
  failed: number;
  bytes: number;
  /** Bytes since the daemon's start by source. */
  from: Record<string, number>;
}

/** @param before undefined, or of another daemon process: rates are those since the daemon's start then */
export function ratesOf(before: Live | undefined, now: Live): Rates {
  const base = before?.health.pid === now.health.pid && before.time < now.time ? before : undefined;
  const seconds = base === undefined ? Math.max(now.health.uptime, 0.001) : (now.time - base.time) / 1000;
  const rate = (later: number, earlier = 0) => Math.max(0, later - earlier) / seconds;
  const { bounds, counts } = now.fetch.faultLatencyMs;
  const between = counts.map((count, i) => count - (base?.fetch.faultLatencyMs.counts[i] ?? 0));
  const [p50, p99] = [quantile(bounds, between, 0.5), quantile(bounds, between, 0.99)];
  return {
    time: now.time,
    seconds,
    reads: {
      hits: rate(now.fuse.hits, base?.fuse.hits),
      faults: rate(now.fuse.faults, base?.fuse.faults),
      hitBytes: rate(now.fuse.hitBytes, base?.fuse.hitBytes),
      waiting: now.fuse.waiting,
    },
    faultMs: p50 === undefined || p99 === undefined ? undefined : { p50, p99 },
    latency: { bounds, counts: between },
    failed: rate(now.fetch.failed, base?.fetch.failed),
    retries: rate(now.fetch.retries, base?.fetch.retries),
    sources: Object.entries(now.fetch.sources).map(([name, { bytes, requests, errors, latencyMs }]) => {
      const earlier = base?.fetch.sources[name];
      return {
        name,
        bytes: rate(bytes, earlier?.bytes),
        requests: rate(requests, earlier?.requests),
        errors: rate(errors, earlier?.errors),
        total: bytes,
        ...(latencyMs.p50 !== undefined && { firstByteMs: latencyMs.p50 }),
      };
    }),
    images: now.images.map((image) => imageRate(image, base?.images, rate)),
  };
}

function imageRate(
  { reference, digest, kind, mounts, size, ready, faults, failed, bytes }: LiveImage,
  earlier: readonly LiveImage[] | undefined,
  rate: (later: number, earlier?: number) => number,
): ImageRate {
  const known = earlier?.find((image) => image.digest === digest);
  return {
    ...{ reference, digest, kind, mounts, size, ready },
    faults: rate(faults, known?.faults),
    failed: rate(failed, known?.failed),
    bytes: rate(total(bytes), known && total(known.bytes)),
    from: bytes,
  };
}

function total(bytes: Record<string, number>): number {
  return Object.values(bytes).reduce((sum, value) => sum + value, 0);
}

/** The bound below which a share of what was counted lies; above the last bound, that one. */
function quantile(bounds: readonly number[], counts: readonly number[], share: number): number | undefined {
  const all = counts.reduce((sum, count) => sum + count, 0);
  if (all <= 0) return undefined;
  let seen = 0;
  const index = counts.findIndex((count) => {
    seen += count;
    return seen >= all * share;
  });
  return bounds[Math.min(index, bounds.length - 1)];
}
