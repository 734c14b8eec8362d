/** What a running daemon says of itself to Prometheus and to who asks whether it is ready. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { ask } from '../http.ts';
import { type MadeImage, makeImage } from '../made-image.ts';
import { groupings, metricsIn, queries } from '../monitoring.ts';
import { parseMetrics, promtool, sum } from '../prometheus.ts';
import { startRegistry } from '../registry/registry.ts';

describe('metrics of a daemon', { skip: cannotMount() }, () => {
  const directory = mkdtempSync('/tmp/nymph-');
  let image: MadeImage;
  before(async () => {
    image = await makeImage(directory, 'app', (tree) => {
      for (let i = 0; i < 8; i++) writeFileSync(join(tree, `file-${i}`), randomBytes(300_000));
    });
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  test('count what its readers did', async (t) => {
    const registry = await startRegistry({ layouts: { app: image.layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t, { toml: '[cache]\nquota = "1GiB"' });
    const scrape = async () => {
      const { status, headers, body } = await ask(daemon.address, '/metrics');
      assert.equal(status, 200);
      assert.equal(headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
      return { text: body, metrics: parseMetrics(body) };
    };
    const idle = await scrape();
    assert.equal(sum(idle.metrics, 'nymph_fuse_faults_total'), 0);
    assert.equal(sum(idle.metrics, 'nymph_images'), 0);

    const place = daemon.place('image');
    await daemon.client.mount({
      ...{ reference: `${registry.host}/app:app`, directory: place },
      options: { prefetch: 'none' },
    });
    // Some of them may fall on connections that are made ahead.
    registry.faults.status = { code: 503, times: 3 };
    for (let i = 0; i < 4; i++)
      assert.equal((await run('cmp', [join(place, `file-${i}`), join(image.truth, `file-${i}`)])).status, 0);

    const { text, metrics } = await scrape();
    const source = registry.host;
    const faults = sum(metrics, 'nymph_fuse_faults_total');
    assert.ok(faults > 0);
    assert.ok(sum(metrics, 'nymph_fault_duration_seconds_count') > 0);
    assert.ok(sum(metrics, 'nymph_source_bytes_total', { source, from: 'origin' }) >= 4 * 300_000);
    assert.ok(sum(metrics, 'nymph_source_requests_total', { source, result: 'ok' }) > 0);
    const errors = sum(metrics, 'nymph_source_requests_total', { source, result: 'error' });
    assert.ok(errors >= 1 && errors <= 3, `${errors} errors`);
    assert.equal(sum(metrics, 'nymph_source_errors_total', { source, code: 'source' }), errors);
    assert.ok(sum(metrics, 'nymph_fetch_retries_total') >= 1);
    assert.ok(sum(metrics, 'nymph_source_first_byte_seconds_count', { source }) > 0);
    assert.equal(sum(metrics, 'nymph_images', { mounted: 'true' }), 1);
    assert.equal(sum(metrics, 'nymph_cache_quota_bytes'), 2 ** 30);
    await until(20_000, 'the bytes in the cache are not counted', async () =>
      sum((await scrape()).metrics, 'nymph_cache_bytes') >= 4 * 300_000 ? true : undefined,
    );
    assert.equal(sum(metrics, 'nymph_cache_blobs', { state: 'open' }), 1);
    const checked = promtool(['check', 'metrics'], text);
    if (checked === undefined) t.diagnostic('no promtool here: names are not checked by Prometheus itself');
    else assert.deepEqual(checked, { status: 0, text: '' });
    // What dashboard and alerts ask for is there.
    for (const query of queries()) {
      const asked = metricsIn(query).map(({ name, labels }) => {
        const family = metrics.get(name) ?? metrics.get(name.replace(/_(?:bucket|sum|count)$/, ''));
        const samples = family?.samples.filter((sample) => sample.name === name) ?? [];
        assert.ok(samples.length > 0, `${name}, in ${query}`);
        for (const label of labels) assert.ok(label in samples[0].labels, `${label} of ${name}, in ${query}`);
        return samples[0];
      });
      for (const label of groupings(query))
        if (label !== 'instance' && label !== 'job')
          assert.ok(
            asked.some(({ labels }) => label in labels),
            `${label}, in ${query}`,
          );
    }
    assert.deepEqual(
      [...idle.metrics.keys()].filter((name) => !metrics.has(name)),
      [],
    );

    await daemon.client.unmount(place, false);
    await daemon.client.prune({ target: 0 });
    const pruned = (await scrape()).metrics;
    assert.equal(sum(pruned, 'nymph_cache_evictions_total', { kind: 'blob' }), 1);
    assert.ok(sum(pruned, 'nymph_cache_evicted_bytes_total') >= 4 * 300_000);
  });

  test('a daemon that serves containerd no snapshots is alive, and not ready', async (t) => {
    const daemon = await testDaemon(t);
    const ready = await ask(daemon.address, '/v1/ready');
    assert.deepEqual([ready.status, JSON.parse(ready.body)], [200, { ready: true, problems: [] }]);

    const directory = mkdtempSync('/tmp/nymph-');
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    // No socket, and not ours to remove.
    const taken = join(directory, 'file');
    writeFileSync(taken, 'something');
    const other = await testDaemon(t, { toml: `[snapshotter]\naddress = "${taken}"` });
    const answer = await ask(other.address, '/v1/ready');
    assert.equal(answer.status, 503);
    const { ready: isReady, problems } = JSON.parse(answer.body);
    assert.equal(isReady, false);
    assert.match(problems.join(), /snapshots are not served: .*is no socket/);
    assert.equal((await ask(other.address, '/v1/health')).status, 200);
    assert.deepEqual((await other.client.status()).ready.problems, problems);
  });
});
