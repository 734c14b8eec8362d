/** A start of an image as a collector of OpenTelemetry sees it. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { makeImage } from '../made-image.ts';
import { startCollector } from '../otlp.ts';
import { startRegistry } from '../registry/registry.ts';

test('the mount of an image and the first read of it are a trace', { skip: cannotMount() }, async (t) => {
  const directory = mkdtempSync('/tmp/nymph-');
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const image = await makeImage(directory, 'app', (tree) => writeFileSync(join(tree, 'file'), randomBytes(300_000)));
  const registry = await startRegistry({ layouts: { app: image.layout } });
  t.after(() => registry.close());
  const collector = await startCollector();
  t.after(() => collector.close());
  const daemon = await testDaemon(t, { toml: `[telemetry]\notlp = "${collector.endpoint}"` });
  const place = daemon.place('image');
  const reference = `${registry.host}/app:app`;
  await daemon.client.mount({ reference, directory: place, options: { prefetch: 'none' } });
  assert.equal((await run('cmp', [join(place, 'file'), join(image.truth, 'file')])).status, 0);
  await until(30_000, 'no trace of the start comes', async () =>
    collector.spans.some(({ name }) => name === 'start') ? true : undefined,
  );
  const start = collector.spans.find(({ name }) => name === 'start')!;
  const spans = collector.spans.filter(({ traceId }) => traceId === start.traceId);
  const byName = new Map(spans.map((span) => [span.name, span]));
  assert.deepEqual([...byName.keys()].sort(), [
    'first read',
    'mount',
    'mounting',
    'reading bootstrap',
    'resolving',
    'start',
  ]);
  assert.equal(start.attributes['container.image.name'], reference);
  assert.equal(start.attributes['oci.manifest.digest'], image.digest);
  assert.equal(byName.get('mount')!.attributes['nymph.mount.kind'], 'erofs');
  assert.equal(byName.get('mounting')!.parentSpanId, byName.get('mount')!.spanId);
  assert.ok(byName.get('first read')!.begun >= byName.get('mount')!.begun);
  assert.equal(start.ended >= byName.get('first read')!.ended, true);

  await assert.rejects(daemon.client.mount({ reference: `${registry.host}/app:absent`, directory: place }));
  await until(30_000, 'no trace of the failure comes', async () =>
    collector.spans.some(({ name, error }) => name === 'start' && error !== undefined) ? true : undefined,
  );
  // What is pulled and then mounted is one trace; what the daemon has when it ends is sent.
  await daemon.client.unmount(place, false);
  await daemon.client.pull({ reference });
  await daemon.client.mount({ reference, directory: place });
  await daemon.stop();
  const pulled = collector.spans.find(({ name }) => name === 'pull')!;
  const together = collector.spans.filter(({ traceId }) => traceId === pulled.traceId).map(({ name }) => name);
  assert.ok(together.includes('start') && together.includes('fetching'), together.join());
  assert.deepEqual(collector.violations, []);
});
