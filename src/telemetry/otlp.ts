import { setTimeout as sleep } from 'node:timers/promises';
import Agent from 'undici/lib/dispatcher/agent.js';
import { DEFAULT_TIMEOUTS, readUpTo, sendRequest } from '../sources/http/request.ts';
import type { EndedSpan, Tracer } from './spans.ts';
import { createTracer } from './tracer.ts';

/**
 * Sends spans to a collector by OTLP/HTTP in JSON (https://opentelemetry.io/docs/specs/otlp/). The official SDK would be
 * several MB for these few spans. What cannot be sent is dropped: it must never be in the way of what is traced.
 */
export interface OtlpOptions {
  /** Where the collector answers, without `/v1/traces`: `http://collector:4318`. */
  endpoint: string;
  /** Sent with each request, for collectors that want a login. */
  headers: Readonly<Record<string, string>>;
  /** Of the resource, beside `service.name`. */
  resource: Readonly<Record<string, string>>;
  version: string;
  log: (level: 'warn' | 'debug', message: string, fields: object) => void;
}

/** Waits this long for more to send along, ms. */
const DELAY_MS = 1000;
const MOST_IN_BATCH = 256;
const MOST_WAITING = 2048;
const ATTEMPTS = 5;
const PAUSE_MS = 500;
/** Longest pause that a collector may ask for. */
const MOST_PAUSE_MS = 30_000;
/** Time for the last spans when the daemon ends. */
const CLOSE_MS = 2000;
/** "Retryable response codes". */
const RETRYABLE: readonly number[] = [429, 502, 503, 504];
const SPAN_KIND_INTERNAL = 1;
const STATUS_ERROR = 2;

export function createOtlpTracer(options: OtlpOptions): Tracer {
  const { endpoint, headers, log } = options;
  const url = new URL(`${endpoint.replace(/\/+$/, '')}/v1/traces`);
  const agent = new Agent();
  const ending = new AbortController();
  let waiting: EndedSpan[] = [];
  let dropped = 0;
  let timer: NodeJS.Timeout | undefined;
  let sending: Promise<void> | undefined;

  function add(span: EndedSpan): void {
    if (waiting.length >= MOST_WAITING) {
      dropped++;
      return;
    }
    waiting.push(span);
    timer ??= setTimeout(() => void sendAll(), DELAY_MS).unref();
  }

  function sendAll(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    sending ??= (async () => {
      while (waiting.length > 0 && !ending.signal.aborted) {
        const batch = waiting.slice(0, MOST_IN_BATCH);
        waiting = waiting.slice(MOST_IN_BATCH);
        await send(batch);
      }
    })().finally(() => (sending = undefined));
    return sending;
  }

  async function send(batch: EndedSpan[]): Promise<void> {
    const body = JSON.stringify(exportRequest(batch, options));
    for (let attempt = 1; ; attempt++) {
      const outcome = await post(body).catch((error: unknown): Outcome => ({ why: String(error), again: 0 }));
      if (outcome === undefined) {
        if (dropped > 0) log('warn', 'spans were dropped: the collector took no others', { url: url.href, dropped });
        dropped = 0;
        return;
      }
      if (outcome.again === undefined || attempt === ATTEMPTS || ending.signal.aborted) {
        log('warn', 'the collector does not take spans', { url: url.href, spans: batch.length, why: outcome.why });
        return;
      }
      log('debug', 'the collector is asked again', { url: url.href, attempt, why: outcome.why });
      const pause = Math.max(outcome.again, PAUSE_MS * 2 ** (attempt - 1) * (0.5 + Math.random()));
      await sleep(Math.min(pause, MOST_PAUSE_MS), undefined, { signal: ending.signal, ref: false }).catch(() => {});
    }
  }

  /** @returns nothing when they were taken, or why not and after how many ms they may be sent again, if they may */
  async function post(body: string): Promise<Outcome | undefined> {
    const response = await sendRequest(
      agent,
      { method: 'POST', url, headers: { ...headers, 'content-type': 'application/json' }, body },
      DEFAULT_TIMEOUTS,
      ending.signal,
    );
    const text = (await readUpTo(response, 4096)).toString('utf8');
    if (response.status === 200) {
      const rejected = rejection(text);
      if (rejected !== undefined) log('warn', 'the collector refuses some spans', { url: url.href, why: rejected });
      return undefined;
    }
    const why = `status ${response.status} ${text.slice(0, 200)}`;
    if (!RETRYABLE.includes(response.status)) return { why };
    return { why, again: 1000 * Math.max(0, Number(response.header('retry-after') ?? 0) || 0) };
  }

  return createTracer(add, async () => {
    const last = setTimeout(() => ending.abort(), CLOSE_MS);
    await sendAll();
    clearTimeout(last);
    ending.abort();
    await agent.destroy();
  });
}

interface Outcome {
  why: string;
  again?: number;
}

/** What a collector says of spans that it did not take ("partial success"). */
function rejection(text: string): string | undefined {
  try {
    const { partialSuccess } = JSON.parse(text);
    const message = partialSuccess?.errorMessage ?? '';
    return Number(partialSuccess?.rejectedSpans ?? 0) > 0 || message !== '' ? String(message) : undefined;
  } catch {
    // An answer of 200 counts, whatever stands in it.
    return undefined;
  }
}

/** `ExportTraceServiceRequest` in the JSON encoding: ids in hex, 64-bit numbers as texts, enumerations as numbers. */
function exportRequest(spans: readonly EndedSpan[], { resource, version }: OtlpOptions): object {
  return {
    resourceSpans: [
      {
        resource: { attributes: keyValues({ 'service.name': 'nymph', 'service.version': version, ...resource }) },
        scopeSpans: [{ scope: { name: 'nymph', version }, spans: spans.map(encodeSpan) }],
      },
    ],
  };
}

function encodeSpan({ name, context, parent, begun, ended, attributes, error }: EndedSpan): object {
  return {
    ...context,
    ...(parent !== undefined && { parentSpanId: parent }),
    name,
    kind: SPAN_KIND_INTERNAL,
    startTimeUnixNano: String(begun),
    endTimeUnixNano: String(ended),
    attributes: keyValues(attributes),
    status: error === undefined ? {} : { code: STATUS_ERROR, message: error },
  };
}

function keyValues(attributes: Readonly<Record<string, string | number | boolean>>): object[] {
  return Object.entries(attributes).map(([key, value]) => ({ key, value: anyValue(value) }));
}

function anyValue(value: string | number | boolean): object {
  if (typeof value === 'string') return { stringValue: value };
  if (typeof value === 'boolean') return { boolValue: value };
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value };
}
