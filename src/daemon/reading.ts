import type { Cache } from '../cache/cache.ts';
import type { FetchContext } from '../fetch/context.ts';
import type { Latencies } from '../fetch/latencies.ts';
import type { Driver } from '../fuse/driver.ts';
import type { Mounts } from '../mount/mounts.ts';
import type { Reading } from '../telemetry/metrics.ts';
import type { ThreadPool } from '../threads/pool.ts';
import type { Service } from './service.ts';
import type { Snapshots } from './snapshots.ts';

export interface ReadingParts {
  version: string;
  limits: Reading['limits'];
  driver: Driver;
  cache: Cache;
  mounts: Mounts;
  pool: ThreadPool;
  context: FetchContext;
  service: Service;
  snapshots: Snapshots | undefined;
}

/** All mounts of the node and all snapshots of containerd are gone through for these: not for every scrape. */
type Slow = Pick<Reading, 'mounts' | 'snapshots'>;

const SLOW_MS = 10_000;

/** Reads what metrics are made of. What only metrics need is loaded, and measured, from the first call on. */
export function createReading(parts: ReadingParts): () => Promise<Reading> {
  const { version, limits, driver, cache, mounts, pool, context, service, snapshots } = parts;
  let eventLoop: Latencies | undefined;
  let slow: { at: number; value: Promise<Slow> } | undefined;

  async function readSlow(): Promise<Slow> {
    const [list, status] = await Promise.all([service.mounts(), snapshots?.status()]);
    if (status === undefined) return { mounts: list };
    const lazy = status.layers.filter((layer) => layer.lazy).length;
    return { mounts: list, snapshots: { active: status.active, lazy, unpacked: status.layers.length - lazy } };
  }

  function slowly(): Promise<Slow> {
    if (slow !== undefined && performance.now() - slow.at < SLOW_MS) return slow.value;
    const value = readSlow();
    value.catch(() => (slow = undefined));
    slow = { at: performance.now(), value };
    return value;
  }

  return async () => {
    const { sampleProcess, watchEventLoop } = await import('../telemetry/process.ts');
    eventLoop ??= watchEventLoop();
    const usage = cache.usage();
    return {
      version,
      limits,
      driver: driver.name,
      fetch: context.statistics,
      fuse: driver.statistics(),
      cache: usage,
      images: { all: usage.images, mounted: new Set(mounts.list().map(({ stored }) => stored.digest)).size },
      backlog: pool.backlog,
      eventLoop,
      process: await sampleProcess(),
      ...(await slowly()),
    };
  };
}
