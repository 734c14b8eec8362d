import type { NymphError } from '../../errors.ts';

/** What is known of one host of a registry: JSON-safe, without secrets. */
export interface HostHealth {
  /** `https://mirror.example:5000` */
  readonly url: string;
  /** Failures since the last success. */
  readonly failures: number;
  /** How long the host is left alone still, ms; absent if it is in use. */
  readonly restingFor?: number;
  readonly lastError?: string;
  readonly requests: number;
  /** Body bytes of blobs and manifests. */
  readonly bytes: number;
}

export interface HealthBook {
  succeeded(url: string): void;
  failed(url: string, error: NymphError): void;
  received(url: string, bytes: number): void;
  /** True if the host failed lately and should be left alone. */
  isResting(url: string): boolean;
  report(): HostHealth[];
}

interface Entry {
  failures: number;
  restingUntil: number;
  lastError?: string;
  requests: number;
  bytes: number;
}

const FIRST_REST = 1000;
const LONGEST_REST = 60_000;
/** A host may ask for more (Retry-After), up to this. */
const LONGEST_ASKED_REST = 600_000;
/** Hosts that are remembered; configuration names few, so this only bounds memory. */
const MAX_HOSTS = 1024;

/**
 * Circuit breakers, one a host: after a failure a host rests for 1 s, doubled with each further failure up to 60 s, less
 * up to half by chance, so that the nodes of a cluster do not come back at once. After the rest it is tried again.
 */
export function createHealthBook(
  now: () => number = performance.now.bind(performance),
  random: () => number = Math.random,
): HealthBook {
  const entries = new Map<string, Entry>();

  const entryOf = (url: string) => {
    let entry = entries.get(url);
    if (!entry) {
      if (entries.size >= MAX_HOSTS) entries.delete(entries.keys().next().value!);
      entry = { failures: 0, restingUntil: 0, requests: 0, bytes: 0 };
      entries.set(url, entry);
    }
    return entry;
  };

  return {
    succeeded(url) {
      const entry = entryOf(url);
      entry.requests++;
      entry.failures = 0;
      entry.restingUntil = 0;
    },
    failed(url, error) {
      const entry = entryOf(url);
      entry.requests++;
      entry.lastError = error.message;
      // Requests that were under way together fail together: they count once.
      if (entry.restingUntil > now()) return;
      const rest = Math.min(LONGEST_REST, FIRST_REST * 2 ** Math.min(entry.failures, 10)) * (0.5 + random() / 2);
      entry.failures++;
      entry.restingUntil = now() + Math.max(rest, Math.min(error.retryAfter ?? 0, LONGEST_ASKED_REST));
    },
    received(url, bytes) {
      entryOf(url).bytes += bytes;
    },
    isResting: (url) => (entries.get(url)?.restingUntil ?? 0) > now(),
    report: () =>
      [...entries].map(([url, { failures, restingUntil, lastError, requests, bytes }]) => ({
        url,
        failures,
        ...(restingUntil > now() ? { restingFor: restingUntil - now() } : {}),
        ...(lastError ? { lastError } : {}),
        requests,
        bytes,
      })),
  };
}
