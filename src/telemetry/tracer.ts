import { randomBytes } from 'node:crypto';
import { NymphError } from '../errors.ts';
import type { EndedSpan, Span, SpanContext, Tracer } from './spans.ts';

/** @param ended is given each span at its end */
export function createTracer(ended: (span: EndedSpan) => void, close: () => Promise<void>): Tracer {
  return {
    begin(name, attributes = {}, parent) {
      const context: SpanContext = { traceId: parent?.traceId ?? identifier(16), spanId: identifier(8) };
      const begun = now();
      const all = { ...attributes };
      let isOver = false;
      const span: Span = {
        context,
        set: (more) => void Object.assign(all, more),
        end(error) {
          if (isOver) return;
          isOver = true;
          const code = error instanceof NymphError ? error.code : error === undefined ? undefined : 'internal';
          ended({
            name,
            context,
            ...(parent !== undefined && { parent: parent.spanId }),
            begun,
            ended: now(),
            attributes: known({ ...all, 'error.type': code }),
            ...(error !== undefined && { error: error instanceof Error ? error.message : String(error) }),
          });
        },
      };
      return span;
    },
    close,
  };
}

/** Never all zeros, which the conventions forbid. */
function identifier(bytes: number): string {
  const value = randomBytes(bytes);
  if (value.every((byte) => byte === 0)) value[0] = 1;
  return value.toString('hex');
}

/** By the clock that goes forward alone, so that a span never ends before it begins. */
function now(): bigint {
  return BigInt(Math.round((performance.timeOrigin + performance.now()) * 1e3)) * 1000n;
}

function known(
  attributes: Record<string, string | number | boolean | undefined>,
): Record<string, string | number | boolean> {
  const entries = Object.entries(attributes).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as Record<string, string | number | boolean>;
}
