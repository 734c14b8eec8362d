/** A collector for tests: takes traces by OTLP/HTTP in JSON, as strictly as the specification is. */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';

export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId?: string;
  name: string;
  /** Unix time, ns. */
  begun: bigint;
  ended: bigint;
  attributes: Record<string, string | number | boolean>;
  error?: string;
}

export interface Collector {
  endpoint: string;
  spans: ReceivedSpan[];
  /** Of the last request. */
  resource: Record<string, string | number | boolean>;
  headers: Record<string, unknown>;
  requests: number;
  /** What is wrong with what came, in words. */
  violations: string[];
  /** Answers for the next requests in place of the true one. */
  answers: { status: number; headers?: Record<string, string>; body?: string }[];
  close(): Promise<void>;
}

type Json = Record<string, unknown>;

export async function startCollector(): Promise<Collector> {
  const collector: Collector = {
    ...{ endpoint: '', spans: [], resource: {}, headers: {}, requests: 0, violations: [], answers: [] },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
  const wrong = (what: string) => void collector.violations.push(what);
  const server: Server = createServer(async (request, response) => {
    collector.requests++;
    collector.headers = request.headers;
    if (request.method !== 'POST' || request.url !== '/v1/traces') wrong(`${request.method} ${request.url}`);
    if (request.headers['content-type'] !== 'application/json') wrong(`type ${request.headers['content-type']}`);
    const body = (await json(request)) as Json;
    const made = collector.answers.shift();
    if (made !== undefined && made.status !== 200) {
      response.writeHead(made.status, made.headers).end(made.body ?? '');
      return;
    }
    take(body, collector, wrong);
    response.writeHead(200, { 'content-type': 'application/json' }).end(made?.body ?? '{"partialSuccess":{}}');
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  collector.endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return collector;
}

/** `ExportTraceServiceRequest` (opentelemetry-proto, collector/trace/v1). */
function take(body: Json, collector: Collector, wrong: (what: string) => void): void {
  only(body, ['resourceSpans'], 'the request', wrong);
  for (const resourceSpans of list(body.resourceSpans)) {
    only(resourceSpans, ['resource', 'scopeSpans', 'schemaUrl'], 'resourceSpans', wrong);
    collector.resource = attributes((resourceSpans.resource as Json)?.attributes, wrong);
    if (typeof collector.resource['service.name'] !== 'string') wrong('a resource without service.name');
    for (const scopeSpans of list(resourceSpans.scopeSpans)) {
      only(scopeSpans, ['scope', 'spans', 'schemaUrl'], 'scopeSpans', wrong);
      for (const span of list(scopeSpans.spans)) collector.spans.push(readSpan(span, wrong));
    }
  }
}

function readSpan(span: Json, wrong: (what: string) => void): ReceivedSpan {
  const names = ['traceId', 'spanId', 'parentSpanId', 'name', 'kind', 'startTimeUnixNano', 'endTimeUnixNano'];
  only(span, [...names, 'attributes', 'status', 'events', 'links', 'flags', 'traceState'], 'a span', wrong);
  const { traceId, spanId, parentSpanId, name, kind, startTimeUnixNano, endTimeUnixNano, status } = span;
  const identifier = (value: unknown, length: number) =>
    typeof value === 'string' && new RegExp(`^[0-9a-f]{${length}}$`).test(value) && !/^0+$/.test(value);
  if (!identifier(traceId, 32)) wrong(`traceId ${traceId}`);
  if (!identifier(spanId, 16)) wrong(`spanId ${spanId}`);
  if (parentSpanId !== undefined && !identifier(parentSpanId, 16)) wrong(`parentSpanId ${parentSpanId}`);
  if (typeof name !== 'string' || name === '') wrong(`name ${name}`);
  if (!Number.isInteger(kind) || (kind as number) < 1 || (kind as number) > 5) wrong(`kind ${kind}`);
  for (const time of [startTimeUnixNano, endTimeUnixNano])
    if (typeof time !== 'string' || !/^\d{19}$/.test(time)) wrong(`a fixed64 is a text of digits: ${time}`);
  const [begun, ended] = [BigInt(String(startTimeUnixNano)), BigInt(String(endTimeUnixNano))];
  if (begun > ended) wrong(`${name} ends before it begins`);
  const { code = 0, message } = (status ?? {}) as { code?: number; message?: string };
  if (![0, 1, 2].includes(code)) wrong(`status ${code}`);
  return {
    ...{ traceId: String(traceId), spanId: String(spanId), name: String(name), begun, ended },
    ...(parentSpanId !== undefined && { parentSpanId: String(parentSpanId) }),
    attributes: attributes(span.attributes, wrong),
    ...(code === 2 && { error: String(message) }),
  };
}

function attributes(value: unknown, wrong: (what: string) => void): Record<string, string | number | boolean> {
  const result: Record<string, string | number | boolean> = {};
  for (const { key, value: any } of list(value)) {
    if (typeof key !== 'string' || key in result) wrong(`attribute ${key}`);
    const [[kind, inner] = [], ...more] = Object.entries((any ?? {}) as Json);
    const isRight =
      (kind === 'stringValue' && typeof inner === 'string') ||
      (kind === 'boolValue' && typeof inner === 'boolean') ||
      (kind === 'doubleValue' && typeof inner === 'number') ||
      (kind === 'intValue' && typeof inner === 'string' && /^-?\d+$/.test(inner));
    if (!isRight || more.length > 0) wrong(`value of ${key}: ${JSON.stringify(any)}`);
    result[String(key)] = kind === 'intValue' ? Number(inner) : (inner as string);
  }
  return result;
}

function only(object: Json, names: readonly string[], what: string, wrong: (what: string) => void): void {
  for (const name of Object.keys(object)) if (!names.includes(name)) wrong(`${what} has no ${name}`);
}

function list(value: unknown): Json[] {
  return Array.isArray(value) ? value : [];
}
