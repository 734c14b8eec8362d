import { type ErrorCode, NymphError } from '../errors.ts';
import type { PieceOrigin } from '../sources/swarm.ts';
import { type BlobStatistics, blobStatistics, noteSlow } from './blob-statistics.ts';
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
  /** Of all faults that got their bytes. */
  faultLatency: Latencies;
  /** By cache key: those that were last added to it. */
  blobs: Map<string, BlobStatistics>;
}

/** What one source did. */
export interface SourceStatistics {
  /** Stored bytes that came from it, wanted or not any more. */
  bytes: number;
  /** Of a swarm: its streams. */
  requests: number;
  errors: number;
  /** How its requests ended; those under way are not among them. `cancelled`: nobody wanted the rest any more. */
  ended: Record<RequestEnd, number>;
  /** `errors` by their code: `source`, `denied`, `timeout`, `corrupt`, … */
  errorTypes: Map<ErrorCode | 'unknown', number>;
  /** From a request to its first byte. */
  latency: Latencies;
  /** Requests that were sent after frames for which another source was late: frames that they brought first, and others. */
  hedgesWon: number;
  hedgesLost: number;
  /** Of a swarm: `bytes` by who had them. */
  from?: Record<PieceOrigin, number>;
}

export type RequestEnd = 'ok' | 'error' | 'cancelled';

const RING = 1024;

export function createFetchStatistics(): FetchStatistics {
  const faultMs = new Float32Array(RING);
  const counts = { requests: 0, retries: 0, badChunks: 0, failed: 0, faults: 0 };
  return { sources: new Map(), ...counts, faultMs, faultLatency: createLatencies(), blobs: new Map() };
}

/** To count in. */
export function statisticsOf(statistics: FetchStatistics, source: string): SourceStatistics {
  const found = statisticsSoFar(statistics, source);
  statistics.sources.set(source, found);
  return found;
}

/** To go by: one that did nothing yet gets no entry, for it may have another name when it does. */
export function statisticsSoFar({ sources }: FetchStatistics, source: string): Readonly<SourceStatistics> {
  return sources.get(source) ?? nothing();
}

function nothing(): SourceStatistics {
  return {
    ...{ bytes: 0, requests: 0, errors: 0, hedgesWon: 0, hedgesLost: 0 },
    ended: { ok: 0, error: 0, cancelled: 0 },
    errorTypes: new Map(),
    latency: createLatencies(),
  };
}

/** A request has ended. @param how `undefined` if all came, `cancelled`, or what went wrong */
export function countEnd(source: SourceStatistics, how: unknown): void {
  const end = how === undefined ? 'ok' : how === 'cancelled' ? 'cancelled' : 'error';
  source.ended[end]++;
  if (end !== 'error') return;
  const type = how instanceof NymphError ? how.code : 'unknown';
  source.errors++;
  source.errorTypes.set(type, (source.errorTypes.get(type) ?? 0) + 1);
}

/** Stored bytes have come from a source for a blob. */
export function countBytes(
  statistics: FetchStatistics,
  source: SourceStatistics,
  name: string,
  key: string,
  bytes: number,
): void {
  source.bytes += bytes;
  const blob = blobStatistics(statistics.blobs, key);
  blob.bytes.set(name, (blob.bytes.get(name) ?? 0) + bytes);
}

/** Stored bytes of one blob, from all sources. */
export function bytesOfBlob({ blobs }: FetchStatistics, key: string): number {
  let sum = 0;
  for (const bytes of blobs.get(key)?.bytes.values() ?? []) sum += bytes;
  return sum;
}

/** Stored bytes by source name. */
export function bytesBySource({ sources }: FetchStatistics): Record<string, number> {
  // Those that have only failed are not among them.
  const brought = [...sources].filter(([, { bytes }]) => bytes > 0);
  return Object.fromEntries(brought.map(([name, { bytes }]) => [name, bytes]));
}

/** A fault got its bytes. @param key of its blob @param offset where the read began in it, bytes */
export function countFault(statistics: FetchStatistics, key: string, offset: number, milliseconds: number): void {
  statistics.faultMs[statistics.faults++ % RING] = milliseconds;
  statistics.faultLatency.add(milliseconds);
  const blob = blobStatistics(statistics.blobs, key);
  blob.faults++;
  noteSlow(blob, { offset, milliseconds, at: Date.now() });
}

/** A fault ended in an error. */
export function countFailure(statistics: FetchStatistics, key: string): void {
  statistics.failed++;
  blobStatistics(statistics.blobs, key).failed++;
}

/** Median, 99th percentile and maximum of the last faults, ms; zeros when there were none. */
export function faultQuantiles(statistics: FetchStatistics): { p50: number; p99: number; max: number } {
  const sorted = statistics.faultMs.slice(0, Math.min(statistics.faults, RING)).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}
