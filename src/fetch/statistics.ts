import type { PieceOrigin } from '../sources/swarm.ts';
import { createLatencies, type Latencies } from './latencies.ts';

/** What fetching did, for `status` and metrics. Shared by all blobs of the daemon. */
export interface FetchStatistics {
  /** By name. */
  sources: Map<string, SourceStatistics>;
  requests: number;
  retries: number;
  badChunks: number;
  failed: number;
  /** Milliseconds of the last faults, a ring. */
  faultMs: Float32Array;
  faults: number;
}

/** What one source did. */
export interface SourceStatistics {
  /** Stored bytes that came from it, wanted or not any more. */
  bytes: number;
  /** Of a swarm: its streams. */
  requests: number;
  errors: number;
  /** From a request to its first byte. */
  latency: Latencies;
  /** Requests that were sent after frames for which another source was late: frames that they brought first, and others. */
  hedgesWon: number;
  hedgesLost: number;
  /** Of a swarm: `bytes` by who had them. */
  from?: Record<PieceOrigin, number>;
}

const RING = 1024;

export function createFetchStatistics(): FetchStatistics {
  const faultMs = new Float32Array(RING);
  return { sources: new Map(), requests: 0, retries: 0, badChunks: 0, failed: 0, faultMs, faults: 0 };
}

/** To count in. */
export function statisticsOf(statistics: FetchStatistics, source: string): SourceStatistics {
  const found = statisticsSoFar(statistics, source);
  statistics.sources.set(source, found);
  return found;
}

/** To go by: one that did nothing yet gets no entry, for it may have another name when it does. */
export function statisticsSoFar({ sources }: FetchStatistics, source: string): Readonly<SourceStatistics> {
  const nothing = () => ({ bytes: 0, requests: 0, errors: 0, latency: createLatencies(), hedgesWon: 0, hedgesLost: 0 });
  return sources.get(source) ?? nothing();
}

/** Stored bytes by source name. */
export function bytesBySource({ sources }: FetchStatistics): Record<string, number> {
  // Those that have only failed are not among them.
  const brought = [...sources].filter(([, { bytes }]) => bytes > 0);
  return Object.fromEntries(brought.map(([name, { bytes }]) => [name, bytes]));
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
