/** What fetching did, for `status` and metrics. Shared by all blobs of the daemon. */
export interface FetchStatistics {
  /** Stored bytes by source name. */
  bytes: Record<string, number>;
  requests: number;
  retries: number;
  badChunks: number;
  failed: number;
  /** Milliseconds of the last faults, a ring. */
  faultMs: Float32Array;
  faults: number;
}

const RING = 1024;

export function createFetchStatistics(): FetchStatistics {
  return { bytes: {}, requests: 0, retries: 0, badChunks: 0, failed: 0, faultMs: new Float32Array(RING), faults: 0 };
}

export function countFault(statistics: FetchStatistics, milliseconds: number): void {
  statistics.faultMs[statistics.faults++ % RING] = milliseconds;
}

/** Median, 99th percentile and maximum of the last faults, ms; zeros when there were none. */
export function faultQuantiles(statistics: FetchStatistics): { p50: number; p99: number; max: number } {
  const sorted = statistics.faultMs.slice(0, Math.min(statistics.faults, RING)).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
