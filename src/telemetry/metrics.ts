import type { CacheUsage } from '../cache/cache.ts';
import type { MountInfo } from '../daemon/api.ts';
import { LATENCY_BOUNDS, type Latencies } from '../fetch/latencies.ts';
import type { FetchStatistics } from '../fetch/statistics.ts';
import type { DriverStatistics } from '../fuse/driver.ts';
import { histogram, type Labels, type Metric, type Sample } from './exposition.ts';
import type { ProcessSample } from './process.ts';

/** What metrics are made of: counters that are kept anyway, as they are now. */
export interface Reading {
  version: string;
  driver: string;
  fetch: FetchStatistics;
  fuse: DriverStatistics;
  cache: CacheUsage;
  mounts: readonly Pick<MountInfo, 'kind' | 'state'>[];
  /** Images in the cache, and those of them that are mounted. */
  images: { all: number; mounted: number };
  /** Of containerd; absent where its socket is not served. */
  snapshots?: { active: number; lazy: number; unpacked: number };
  /** Stored bytes that wait for decoding or are being decoded. */
  backlog: number;
  /** What the daemon may use: of its cgroup, or of the machine. */
  limits: { cpus: number; memory: number };
  /** ms that the event loop was late. */
  eventLoop: Latencies;
  process: ProcessSample;
}

const SECONDS = LATENCY_BOUNDS.map((bound) => bound / 1000);

/** The metrics of a daemon. Names and units: https://prometheus.io/docs/practices/naming/. */
export function metricsOf(reading: Reading): Metric[] {
  return [
    gauge('nymph_build_info', 'Always 1; the labels say what runs.', [
      { labels: { version: reading.version, node: process.version, driver: reading.driver }, value: 1 },
    ]),
    ...fuseMetrics(reading.fuse),
    ...faultMetrics(reading.fetch),
    ...sourceMetrics(reading),
    ...cacheMetrics(reading.cache),
    ...imageMetrics(reading),
    ...processMetrics(reading),
  ];
}

function fuseMetrics({ requests, hits, hitBytes, faults, waiting }: DriverStatistics): Metric[] {
  return [
    counter(
      'nymph_fuse_requests_total',
      'Requests of the kernel that were not answered by a FUSE thread alone, by operation.',
      Object.entries(requests).map(([operation, value]) => ({ labels: { operation }, value })),
    ),
    counter('nymph_fuse_hits_total', 'Reads that were answered from the cache, in the FUSE thread.', [{ value: hits }]),
    counter('nymph_fuse_hit_bytes_total', 'Bytes of reads that were answered from the cache.', [{ value: hitBytes }]),
    counter('nymph_fuse_faults_total', 'Reads of bytes that were not here.', [{ value: faults }]),
    gauge('nymph_fuse_waiting_reads', 'Reads that wait for bytes now: the FUSE queue.', [{ value: waiting }]),
  ];
}

function faultMetrics({ faultLatency, failed, retries, badChunks }: FetchStatistics): Metric[] {
  return [
    {
      name: 'nymph_fault_duration_seconds',
      help: 'How long reads of bytes that were not here waited for them.',
      type: 'histogram',
      samples: seconds(faultLatency),
    },
    counter('nymph_fault_errors_total', 'Reads that ended in an error, because their bytes could not be had.', [
      { value: failed },
    ]),
    counter('nymph_fetch_retries_total', 'Requests to sources that were sent again after a failure.', [
      { value: retries },
    ]),
    counter('nymph_bad_chunks_total', 'Chunks whose digest was wrong on arrival.', [{ value: badChunks }]),
  ];
}

function sourceMetrics({ fetch, backlog }: Reading): Metric[] {
  const all = [...fetch.sources];
  return [
    counter(
      'nymph_source_bytes_total',
      'Stored bytes that came from a source. `from` is who had them, where the source is a swarm; else `origin`.',
      all.flatMap(([source, { bytes, from }]) =>
        Object.entries(from ?? { origin: bytes }).map(([from, value]) => ({ labels: { source, from }, value })),
      ),
    ),
    counter(
      'nymph_source_requests_total',
      'Requests to a source that have ended, by how.',
      all.flatMap(([source, { ended }]) =>
        Object.entries(ended).map(([result, value]) => ({ labels: { source, result }, value })),
      ),
    ),
    counter(
      'nymph_source_errors_total',
      'Requests to a source that have ended in an error, by its code.',
      all.flatMap(([source, { errorTypes }]) =>
        Array.from(errorTypes, ([code, value]) => ({ labels: { source, code }, value })),
      ),
    ),
    {
      name: 'nymph_source_first_byte_seconds',
      help: 'From a request to a source to its first byte.',
      type: 'histogram',
      samples: all.flatMap(([source, { latency }]) => seconds(latency, { source })),
    },
    counter(
      'nymph_source_hedges_total',
      'Requests that were sent because another source was late: whether they were first.',
      all.flatMap(([source, { hedgesWon, hedgesLost }]) => [
        { labels: { source, result: 'won' }, value: hedgesWon },
        { labels: { source, result: 'lost' }, value: hedgesLost },
      ]),
    ),
    gauge('nymph_decode_backlog_bytes', 'Stored bytes that have come and wait for decoding and verification.', [
      { value: backlog },
    ]),
  ];
}

function cacheMetrics({ bytes, quota, blobs, openBlobs, writable, evicted }: CacheUsage): Metric[] {
  return [
    gauge('nymph_cache_bytes', 'Bytes on disk of the cache.', [{ value: bytes }]),
    gauge('nymph_cache_quota_bytes', 'Bytes that the cache may use; absent without a quota.', [
      ...(quota === undefined ? [] : [{ value: quota }]),
    ]),
    gauge('nymph_cache_blobs', 'Blobs in the cache, open ones and idle ones.', [
      { labels: { state: 'open' }, value: openBlobs },
      { labels: { state: 'idle' }, value: blobs - openBlobs },
    ]),
    gauge('nymph_cache_writable', '0 while the disk takes nothing: reads go on, nothing is kept.', [
      { value: Number(writable) },
    ]),
    counter('nymph_cache_evictions_total', 'What was evicted from the cache.', [
      { labels: { kind: 'blob' }, value: evicted.blobs },
      { labels: { kind: 'image' }, value: evicted.images },
    ]),
    counter('nymph_cache_evicted_bytes_total', 'Bytes that were evicted from the cache.', [{ value: evicted.bytes }]),
  ];
}

function imageMetrics({ mounts, images, snapshots }: Reading): Metric[] {
  const counts = new Map<string, Sample>();
  for (const kind of ['erofs', 'fuse'])
    for (const state of ['ok', 'failed']) counts.set(`${kind} ${state}`, { labels: { kind, state }, value: 0 });
  for (const { kind, state } of mounts) counts.get(`${kind} ${state === 'ok' ? 'ok' : 'failed'}`)!.value++;
  return [
    gauge('nymph_mounts', 'Mounts of images, by what serves their tree.', [...counts.values()]),
    gauge('nymph_images', 'Images in the cache.', [
      { labels: { mounted: 'true' }, value: images.mounted },
      { labels: { mounted: 'false' }, value: images.all - images.mounted },
    ]),
    gauge(
      'nymph_snapshot_layers',
      'Layers that containerd has here, lazy ones and unpacked ones. `nymph status` has the reasons.',
      snapshots === undefined
        ? []
        : [
            { labels: { lazy: 'true' }, value: snapshots.lazy },
            { labels: { lazy: 'false' }, value: snapshots.unpacked },
          ],
    ),
    gauge(
      'nymph_snapshot_containers',
      'Writable snapshots: containers, and layers that are being unpacked.',
      snapshots === undefined ? [] : [{ value: snapshots.active }],
    ),
  ];
}

function processMetrics({ eventLoop, limits, process }: Reading): Metric[] {
  return [
    {
      name: 'nymph_event_loop_delay_seconds',
      help: 'How late the thread was that sends for what readers wait for; sampled from the first scrape on.',
      type: 'histogram',
      samples: seconds(eventLoop),
    },
    gauge('nymph_limit_cpus', 'Processors that the daemon may use: of its cgroup, or of the machine.', [
      { value: limits.cpus },
    ]),
    gauge('nymph_limit_memory_bytes', 'Memory that the daemon may use: of its cgroup, or of the machine.', [
      { value: limits.memory },
    ]),
    counter('process_cpu_seconds_total', 'User and system time of the daemon.', [{ value: process.cpuSeconds }]),
    gauge('process_resident_memory_bytes', 'Resident memory of the daemon.', [{ value: process.residentBytes }]),
    gauge('process_start_time_seconds', 'Unix time of the start of the daemon.', [{ value: process.startSeconds }]),
    gauge('process_open_fds', 'Open file descriptors of the daemon.', [{ value: process.openFiles }]),
    gauge('process_max_fds', 'The limit of open file descriptors.', [{ value: process.mostFiles }]),
    gauge('nodejs_heap_size_used_bytes', 'JavaScript heap of the main thread in use.', [{ value: process.heapBytes }]),
  ];
}

function counter(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'counter', samples };
}

function gauge(name: string, help: string, samples: readonly Sample[]): Metric {
  return { name, help, type: 'gauge', samples };
}

function seconds({ counts, sum }: Latencies, labels?: Labels): Sample[] {
  return histogram(SECONDS, counts, sum / 1000, labels);
}
