import type { Cache, StoredImage } from '../cache/cache.ts';
import { NymphError } from '../errors.ts';
import type { FetchContext } from '../fetch/context.ts';
import { LATENCY_BOUNDS, type Latencies } from '../fetch/latencies.ts';
import { bytesBySource, faultQuantiles, type SourceStatistics } from '../fetch/statistics.ts';
import type { Driver } from '../fuse/driver.ts';
import { readMounts } from '../mount/mountinfo.ts';
import type { ActiveMount, Mounts } from '../mount/mounts.ts';
import type { ImageOpener } from '../mount/open.ts';
import type {
  DaemonLimits,
  Health,
  ImageInfo,
  LatencyHistogram,
  MountInfo,
  Ready,
  SourceStatus,
  Status,
} from './api.ts';

/** What the control API tells of a running daemon; nothing is changed. */
export interface Reports {
  mounts(): Promise<MountInfo[]>;
  images(): Promise<ImageInfo[]>;
  image(stored: StoredImage): Promise<ImageInfo>;
  /** @param name reference or digest */
  find(name: string): StoredImage | undefined;
  /** The same. @throws NymphError `not-found` */
  stored(name: string): StoredImage;
  /** What was counted so far: cheap. */
  counters(): Counters;
  status(): Promise<Status>;
}

export type Counters = Pick<Status, 'health' | 'cache' | 'fuse' | 'fetch'>;

export interface ReportParts {
  cache: Cache;
  driver: Driver;
  mounts: Mounts;
  opener: ImageOpener;
  context: FetchContext;
  health: () => Health;
  ready: () => Ready;
  limits: DaemonLimits;
}

export function createReports({ cache, driver, mounts, opener, context, health, ready, limits }: ReportParts): Reports {
  const { statistics } = context;

  async function mountList(): Promise<MountInfo[]> {
    const entries = await readMounts();
    return mounts
      .list()
      .map((mount) => mountInfo(mount, mounts.isThere(mount, entries) ? 'ok' : 'unmounted by somebody else'));
  }

  async function imageInfo(stored: StoredImage): Promise<ImageInfo> {
    const sizes: ImageInfo['blobs'] = [];
    for (const { key, id, size, storedSize, traits = [], guarantee = 'chunk', path } of stored.blobs) {
      const here = (await cache.peek(key)) ?? { size, ready: 0 };
      sizes.push({ id, storedSize, traits, guarantee, ...(path !== undefined && { path }), ...here });
    }
    const sum = (pick: (blob: (typeof sizes)[number]) => number) =>
      sizes.reduce((total, blob) => total + pick(blob), 0);
    return {
      reference: stored.reference,
      digest: stored.digest,
      ...(stored.subset && { subset: stored.subset }),
      format: stored.format,
      inodes: stored.inodes,
      size: sum((blob) => blob.size),
      ready: sum((blob) => blob.ready),
      storedSize: sum((blob) => blob.storedSize),
      mounts: mounts
        .list()
        .filter((m) => m.stored.digest === stored.digest)
        .map((m) => m.stored.directory),
      pinned: cache.image(stored.digest)?.pinned === true,
      blobs: sizes,
      verifiable: stored.verifiable,
    };
  }

  const images = () => Promise.all(cache.images().map(imageInfo));

  function find(name: string): StoredImage | undefined {
    const reference = name.startsWith('sha256:') ? undefined : opener.canonical(name);
    const named = cache.images().filter(({ digest, reference: other }) => digest === name || other === reference);
    // A reference means all of it, where all of it is here.
    return named.find(({ subset }) => subset === undefined) ?? named[0];
  }

  function storedImage(name: string): StoredImage {
    const stored = find(name);
    if (stored === undefined)
      throw new NymphError('not-found', `no image ${name} is here`, { hint: '`nymph ls` lists what is.' });
    return stored;
  }

  function counters(): Counters {
    const { requests, retries, badChunks, failed, faultLatency } = statistics;
    return {
      health: health(),
      cache: cache.usage(),
      fuse: { driver: driver.name, ...driver.statistics() },
      fetch: {
        bytes: bytesBySource(statistics),
        sources: Object.fromEntries(Array.from(statistics.sources, ([name, source]) => [name, sourceStatus(source)])),
        requests,
        retries,
        badChunks,
        failed,
        faultMs: faultQuantiles(statistics),
        faultLatencyMs: latencyHistogram(faultLatency),
      },
    };
  }

  async function status(): Promise<Status> {
    return {
      ready: ready(),
      ...counters(),
      limits,
      mounts: await mountList(),
      images: await images(),
    };
  }

  return { mounts: mountList, images, image: imageInfo, find, stored: storedImage, counters, status };
}

function sourceStatus({
  bytes,
  requests,
  errors,
  ended,
  errorTypes: types,
  latency,
  hedgesWon,
  hedgesLost,
  from,
}: SourceStatistics): SourceStatus {
  const [p50, p95] = [latency.quantile(0.5), latency.quantile(0.95)];
  const latencyMs = { p50, p95, ...latencyHistogram(latency) };
  const errorTypes = Object.fromEntries(types);
  return {
    bytes,
    requests,
    errors,
    ended,
    errorTypes,
    latencyMs,
    hedges: { won: hedgesWon, lost: hedgesLost },
    ...(from && { from }),
  };
}

function latencyHistogram({ counts, sum }: Latencies): LatencyHistogram {
  return { bounds: LATENCY_BOUNDS, counts, sum };
}

export function mountInfo({ stored, image }: ActiveMount, state: string): MountInfo {
  const { directory, reference, digest, kind, reason, since } = stored;
  const { subset } = image.stored;
  return { directory, reference, digest, ...(subset && { subset }), kind, reason, since, state };
}
