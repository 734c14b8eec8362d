import assert from 'node:assert/strict';
import { test } from 'node:test';
import { blobStatistics } from '../../src/fetch/blob-statistics.ts';
import { createLatencies } from '../../src/fetch/latencies.ts';
import { countBytes, countFault, createFetchStatistics, statisticsOf } from '../../src/fetch/statistics.ts';
import { formatMetrics, histogram } from '../../src/telemetry/exposition.ts';
import { metricsOf, type Reading } from '../../src/telemetry/metrics.ts';
import { sampleProcess } from '../../src/telemetry/process.ts';
import { ask } from '../http.ts';
import { parseMetrics, promtool, sum } from '../prometheus.ts';
import { serve } from './cli-daemon.ts';

async function reading(): Promise<Reading> {
  const fetch = createFetchStatistics();
  const registry = statisticsOf(fetch, 'registry.example');
  countBytes(fetch, registry, 'registry.example', 'blob', 5000);
  registry.ended.ok = 3;
  registry.ended.error = 1;
  registry.errorTypes.set('timeout', 1);
  registry.latency.add(12);
  const swarm = statisticsOf(fetch, 'dragonfly');
  swarm.from = { local: 1, peer: 2, seed: 3, origin: 4, unknown: 0 };
  swarm.bytes = 10;
  for (const ms of [0.5, 1, 3, 40, 20_000]) countFault(fetch, 'blob', 4096, ms);
  return {
    version: '1.2.3',
    driver: 'kernel',
    fetch,
    fuse: { requests: { READ: 5, LOOKUP: 2 }, hits: 100, hitBytes: 4096, faults: 6, waiting: 1 },
    cache: {
      ...{ bytes: 10, quota: 100, blobs: 3, openBlobs: 1, images: 2, writable: true },
      evicted: { blobs: 1, images: 0, bytes: 7 },
    },
    mounts: [
      { kind: 'erofs', state: 'ok' },
      { kind: 'erofs', state: 'ok' },
      { kind: 'fuse', state: 'unmounted by somebody else' },
    ],
    images: { all: 2, mounted: 1 },
    snapshots: { active: 4, lazy: 3, unpacked: 2 },
    backlog: 77,
    limits: { cpus: 2, memory: 2 ** 30 },
    eventLoop: createLatencies(),
    process: await sampleProcess(),
  };
}

test('metrics are in the format of Prometheus, and say what was counted', async (t) => {
  const text = formatMetrics(metricsOf(await reading()));
  const metrics = parseMetrics(text);
  assert.equal(sum(metrics, 'nymph_build_info', { version: '1.2.3', driver: 'kernel' }), 1);
  assert.equal(sum(metrics, 'nymph_source_bytes_total', { source: 'registry.example', from: 'origin' }), 5000);
  assert.equal(sum(metrics, 'nymph_source_bytes_total', { source: 'dragonfly' }), 10);
  assert.equal(sum(metrics, 'nymph_source_bytes_total', { source: 'dragonfly', from: 'seed' }), 3);
  assert.equal(sum(metrics, 'nymph_source_requests_total', { result: 'error' }), 1);
  assert.equal(sum(metrics, 'nymph_source_errors_total', { source: 'registry.example', code: 'timeout' }), 1);
  assert.equal(sum(metrics, 'nymph_limit_memory_bytes'), 2 ** 30);
  assert.equal(sum(metrics, 'nymph_fault_duration_seconds_count'), 5);
  assert.equal(sum(metrics, 'nymph_fault_duration_seconds_sum'), 20.0445);
  assert.equal(sum(metrics, 'nymph_fault_duration_seconds_bucket', { le: '0.001' }), 2);
  assert.equal(sum(metrics, 'nymph_fault_duration_seconds_bucket', { le: '0.005' }), 3);
  assert.equal(sum(metrics, 'nymph_fault_duration_seconds_bucket', { le: '10' }), 4);
  assert.equal(sum(metrics, 'nymph_mounts', { kind: 'erofs', state: 'ok' }), 2);
  assert.equal(sum(metrics, 'nymph_mounts', { kind: 'fuse', state: 'failed' }), 1);
  assert.equal(sum(metrics, 'nymph_images', { mounted: 'false' }), 1);
  assert.equal(sum(metrics, 'nymph_snapshot_layers', { lazy: 'false' }), 2);
  assert.equal(sum(metrics, 'nymph_cache_quota_bytes'), 100);
  assert.ok(sum(metrics, 'process_resident_memory_bytes') > 10e6);
  assert.ok(sum(metrics, 'process_open_fds') > 2);
  const checked = promtool(['check', 'metrics'], text);
  if (checked === undefined) t.diagnostic('no promtool here: names are not checked by Prometheus itself');
  else assert.deepEqual(checked, { status: 0, text: '' });
});

test('what has no value has no sample: a cache without quota, a daemon without containerd', async () => {
  const { snapshots, ...rest } = await reading();
  const metrics = parseMetrics(formatMetrics(metricsOf({ ...rest, cache: { ...rest.cache, quota: undefined } })));
  assert.equal(metrics.has('nymph_cache_quota_bytes'), false);
  assert.equal(metrics.has('nymph_snapshot_layers'), false);
});

test('labels and values are escaped as the format says', () => {
  const samples = [
    { labels: { source: 'a"b\\c\nd' }, value: Number.POSITIVE_INFINITY },
    { labels: { source: 'e' }, value: Number.NaN },
  ];
  assert.equal(
    formatMetrics([{ name: 'x', help: 'one\nline \\', type: 'gauge', samples }]),
    '# HELP x one\\nline \\\\\n# TYPE x gauge\nx{source="a\\"b\\\\c\\nd"} +Inf\nx{source="e"} NaN\n',
  );
  assert.deepEqual(
    histogram([1], [2, 3], 9).map(({ value }) => value),
    [2, 5, 9, 5],
  );
});

test('of a blob the slowest faults are kept, and of blobs those that were last counted in', () => {
  const fetch = createFetchStatistics();
  for (let i = 0; i < 100; i++) countFault(fetch, 'a', i, (i * 37) % 100);
  const { faults, slowest } = fetch.blobs.get('a')!;
  assert.equal(faults, 100);
  assert.deepEqual(
    slowest.map(({ milliseconds }) => milliseconds),
    Array.from({ length: 32 }, (_, i) => 99 - i),
  );
  for (let i = 0; i < 5000; i++) {
    blobStatistics(fetch.blobs, `b${i}`);
    blobStatistics(fetch.blobs, 'a');
  }
  assert.equal(fetch.blobs.size, 4096);
  assert.equal(fetch.blobs.get('a')!.faults, 100);
  assert.ok(!fetch.blobs.has('b0') && fetch.blobs.has('b4999'));
});

test('the control API gives nothing but reading to a browser', async (t) => {
  let stopped = false;
  const address = await serve(t, {
    calls: { 'POST /v1/stop': () => (stopped = true), 'GET /v1/health': () => ({ pid: 1 }) },
  });
  const statusOf = async (method: string, path: string, headers: Record<string, string>) =>
    (await ask(address, path, { method, headers })).status;
  assert.equal(await statusOf('POST', '/v1/stop', { origin: 'https://evil.example' }), 403);
  assert.equal(await statusOf('POST', '/v1/stop', { 'sec-fetch-site': 'cross-site' }), 403);
  assert.equal(stopped, false);
  assert.equal(await statusOf('GET', '/v1/health', { 'sec-fetch-site': 'same-origin' }), 200);
  assert.equal(await statusOf('GET', '//[', {}), 400);
  assert.equal(await statusOf('POST', '/v1/stop', {}), 200);
  assert.equal(stopped, true);
});
