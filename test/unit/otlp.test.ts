import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import { hostname } from 'node:os';
import { type TestContext, test } from 'node:test';
import { openTraces } from '../../src/daemon/traces.ts';
import { NymphError } from '../../src/errors.ts';
import type { FileSystem } from '../../src/fuse/driver.ts';
import { createOtlpTracer, type OtlpOptions } from '../../src/telemetry/otlp.ts';
import { createStartTraces } from '../../src/telemetry/start-traces.ts';
import { NO_TRACES } from '../../src/telemetry/starts.ts';
import { until } from '../daemon.ts';
import { type Collector, startCollector } from '../otlp.ts';

async function collecting(t: TestContext, options: Partial<OtlpOptions> = {}) {
  const collector = await startCollector();
  t.after(() => collector.close());
  const logged: string[] = [];
  const tracer = createOtlpTracer({
    ...{ endpoint: collector.endpoint, headers: {}, resource: {}, version: '1.2.3' },
    log: (level, message, fields) => void logged.push(`${level}: ${message} ${JSON.stringify(fields)}`),
    ...options,
  });
  t.after(() => tracer.close());
  return { collector, tracer, logged };
}

const came = (collector: Collector, count: number) =>
  until(30_000, `${count} spans do not come`, async () => collector.spans.length >= count || undefined);

test('spans are sent as the protocol has them', async (t) => {
  const { collector, tracer } = await collecting(t, {
    headers: { authorization: 'Basic c2VjcmV0' },
    resource: { 'host.name': 'node-1' },
  });
  const root = tracer.begin('root', {
    text: 'a"b\u0000\u{1F409}',
    whole: 2 ** 40,
    part: 0.5,
    truth: true,
    nothing: undefined,
  });
  const child = tracer.begin('child', {}, root.context);
  child.end(new NymphError('timeout', 'nobody answered'));
  root.set({ late: 1 });
  root.end();
  root.end(new Error('only the first end counts'));
  await came(collector, 2);
  assert.deepEqual(collector.violations, []);
  assert.deepEqual(collector.resource, { 'service.name': 'nymph', 'service.version': '1.2.3', 'host.name': 'node-1' });
  assert.equal(collector.headers.authorization, 'Basic c2VjcmV0');
  const [first, second] = collector.spans;
  assert.deepEqual(
    [first.name, first.error, first.attributes],
    ['child', 'nobody answered', { 'error.type': 'timeout' }],
  );
  assert.equal(first.traceId, second.traceId);
  assert.equal(first.parentSpanId, second.spanId);
  assert.equal(second.parentSpanId, undefined);
  assert.equal(second.error, undefined);
  assert.deepEqual(second.attributes, { text: 'a"b\u0000\u{1F409}', whole: 2 ** 40, part: 0.5, truth: true, late: 1 });
  assert.ok(second.begun <= first.begun && first.ended <= second.ended);
  assert.ok(Math.abs(Number(second.begun / 1_000_000n) - Date.now()) < 60_000, 'Unix time');
});

test('a collector that is away for a while gets them later, as it asks', async (t) => {
  const { collector, tracer, logged } = await collecting(t);
  collector.answers.push({ status: 503 }, { status: 429, headers: { 'retry-after': '1' } });
  tracer.begin('one').end();
  await came(collector, 1);
  assert.equal(collector.requests, 3);
  assert.ok(
    logged.every((line) => line.startsWith('debug')),
    logged.join(),
  );
});

test('what a collector refuses is dropped, and said', async (t) => {
  const { collector, tracer, logged } = await collecting(t);
  collector.answers.push({ status: 400, body: 'bad span' });
  tracer.begin('refused').end();
  await until(30_000, 'nothing is said', async () => logged.length > 0 || undefined);
  assert.match(logged[0], /^warn: the collector does not take spans .*status 400 bad span/);
  collector.answers.push({ status: 200, body: '{"partialSuccess":{"rejectedSpans":"1","errorMessage":"too old"}}' });
  tracer.begin('taken').end();
  await came(collector, 1);
  await until(30_000, 'nothing is said of a part', async () => logged.length > 1 || undefined);
  assert.match(logged[1], /refuses some spans .*too old/);
  assert.deepEqual(
    collector.spans.map(({ name }) => name),
    ['taken'],
  );
});

test('the end waits for the last spans, and not for a collector that hangs', async (t) => {
  const { collector, tracer } = await collecting(t);
  for (let i = 0; i < 600; i++) tracer.begin(`span ${i}`).end();
  await tracer.close();
  assert.equal(collector.spans.length, 600);
  assert.equal(collector.requests, 3, 'in batches');

  const silent = createServer();
  await new Promise<void>((resolve) => silent.listen(0, '127.0.0.1', resolve));
  t.after(() => silent.close());
  const { port } = silent.address() as { port: number };
  const hanging = await collecting(t, { endpoint: `http://127.0.0.1:${port}/` });
  for (let i = 0; i < 3000; i++) hanging.tracer.begin('lost').end();
  await hanging.tracer.close();
});

test('a start is one trace: pull, mount with its stages, first read', async (t) => {
  const { collector, tracer } = await collecting(t);
  const traces = createStartTraces(tracer);
  const image = { digest: 'sha256:1', format: 'rafs-v6', size: 4096 };
  const pull = traces.begin('pull', 'registry.example/app:1');
  pull.stage('resolving');
  pull.stage('fetching');
  pull.done(image, []);
  const mount = traces.begin('mount', 'registry.example/app:1');
  mount.stage('resolving');
  mount.stage('resolving');
  mount.stage('mounting');
  mount.done({ ...image, kind: 'erofs', directory: '/mnt' }, [7, 8]);
  const inner = { read: async () => [Buffer.from('x')] } as unknown as FileSystem;
  const watched = traces.watch(inner);
  const { signal } = new AbortController();
  for (const ino of [99, 8, 7]) await watched.read([{ ino, offset: 4096, length: 512 }], signal);
  const failing = traces.begin('mount', 'registry.example/other:1');
  failing.stage('resolving');
  failing.failed(new NymphError('not-found', 'no such tag'));
  await traces.close();
  assert.deepEqual(collector.violations, []);
  const names = (spans: Collector['spans']) => spans.map(({ name }) => name).sort();
  const ofStart = collector.spans.filter(
    ({ attributes }) => attributes['container.image.name'] === 'registry.example/app:1',
  );
  const [pulled] = collector.spans.filter(({ name }) => name === 'pull');
  const whole = collector.spans.filter(({ traceId }) => traceId === pulled.traceId);
  assert.equal(ofStart.length, 2);
  assert.deepEqual(names(whole), [
    'fetching',
    'first read',
    'mount',
    'mounting',
    'pull',
    'resolving',
    'resolving',
    'start',
  ]);
  const start = whole.find(({ name }) => name === 'start')!;
  assert.equal(start.parentSpanId, pulled.spanId);
  assert.deepEqual(names(whole.filter(({ parentSpanId }) => parentSpanId === start.spanId)), ['first read', 'mount']);
  const read = whole.find(({ name }) => name === 'first read')!;
  assert.deepEqual(read.attributes, { 'nymph.read.offset': 4096, 'nymph.read.length': 512 });
  const failed = collector.spans.filter(({ traceId }) => traceId !== pulled.traceId);
  assert.deepEqual(names(failed), ['mount', 'resolving', 'start']);
  assert.ok(failed.every(({ error }) => error === 'no such tag'));
});

test('nothing is traced unless a collector is set; OpenTelemetry’s variables count', async (t) => {
  const said: string[] = [];
  const open = (otlp: string | undefined, environment: NodeJS.ProcessEnv) =>
    openTraces({ otlp }, '1', (level, message) => void said.push(`${level} ${message}`), environment);
  assert.equal(await open(undefined, {}), NO_TRACES);
  assert.equal(await open('http://127.0.0.1:1', { OTEL_SDK_DISABLED: 'true' }), NO_TRACES);
  assert.equal(await open(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4318' }), NO_TRACES);
  assert.match(said.join(), /error OTEL_EXPORTER_OTLP_ENDPOINT is no address/);
  const collector = await startCollector();
  t.after(() => collector.close());
  const traces = await open(undefined, {
    OTEL_EXPORTER_OTLP_ENDPOINT: `${collector.endpoint}/`,
    OTEL_EXPORTER_OTLP_HEADERS: 'x-tenant=a%20b, broken,=c',
    OTEL_SERVICE_NAME: 'lazy',
    OTEL_RESOURCE_ATTRIBUTES: 'host.name=n1,k8s.cluster.name=50%',
  });
  traces.begin('mount', 'a').failed('why');
  await traces.close();
  assert.equal(collector.headers['x-tenant'], 'a b');
  assert.deepEqual(collector.resource, {
    ...{ 'service.name': 'lazy', 'service.version': '1', 'host.name': 'n1', 'k8s.cluster.name': '50%' },
  });
  const plain = await open(collector.endpoint, {});
  plain.begin('pull', 'b').failed('why');
  await plain.close();
  assert.deepEqual(collector.resource, { 'service.name': 'nymph', 'service.version': '1', 'host.name': hostname() });
  assert.deepEqual(collector.violations, []);
});
