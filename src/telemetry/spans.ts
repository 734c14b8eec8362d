/**
 * What traces are made of: spans, each a piece of work with a beginning, an end and what is known of it. Nothing comes of
 * them unless an exporter is set (`otlp.ts`), which is loaded only then.
 */
export interface Tracer {
  /** Begins a span; of a trace of its own without a parent. */
  begin(name: string, attributes?: Attributes, parent?: SpanContext): Span;
  /** Sends what has ended. */
  close(): Promise<void>;
}

/** By which a span is known to others (W3C Trace Context): hex, 32 and 16 characters. */
export interface SpanContext {
  readonly traceId: string;
  readonly spanId: string;
}

export interface Span {
  readonly context: SpanContext;
  set(attributes: Attributes): void;
  /** Only the first end counts. @param error what it failed of */
  end(error?: unknown): void;
}

/** Names are those of the semantic conventions, where these have one. */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** Of a span as it is sent. */
export interface EndedSpan {
  name: string;
  context: SpanContext;
  parent?: string;
  /** Unix time, ns. */
  begun: bigint;
  ended: bigint;
  attributes: Record<string, string | number | boolean>;
  /** What it failed of, for people. */
  error?: string;
}
