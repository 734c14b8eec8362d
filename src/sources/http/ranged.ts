import { NymphError } from '../../errors.ts';
import { cancelled } from '../retry.ts';
import type { Source } from '../source.ts';
import { type Endpoint, endpointKey } from './endpoint.ts';
import type { PlaceErrors } from './errors.ts';
import { type Avoided, firstOf, type HostBook, noteFailure } from './failover.ts';
import { checkRange, exactly, MAX_SKIP, noRanges, type RangeRequest, rangeHeader } from './range.ts';
import type { HttpResponse } from './request.ts';

/** For how long a server that ignored `Range` is taken not to know it, ms. Caching mirrors learn it once they are full. */
const NO_RANGES = 60_000;

/** An object that HTTP servers have. */
export interface RangedObject<E extends Endpoint> {
  /** Who has it, for logs. */
  readonly name: string;
  /** For errors: `blob sha256:…`. */
  readonly what: string;
  /** Bytes, where it is known. */
  readonly size: number | undefined;
  readonly errors: PlaceErrors;
  /** Who may be asked, in order. */
  endpoints(): Promise<readonly E[]>;
  /** Asks one of them; any status may come back. @throws NymphError */
  request(endpoint: E, headers: Record<string, string>, signal: AbortSignal): Promise<HttpResponse>;
  /** Wrong bytes came from there: what was learnt about the object's place is worth nothing. */
  forget?(endpoint: E): void;
}

/**
 * Opens an object for range reads (RFC 9110 §14). `read` asks each endpoint at most once, and none again: a reader whose
 * stream breaks asks for the rest.
 */
export function openRanged<E extends Endpoint>(book: HostBook, object: RangedObject<E>): Source {
  const { what, size, errors } = object;
  const avoided: Avoided = new Map();
  /** Endpoints that ignored `Range`; Unix time in ms until which ranges far inside are not asked for. */
  const withoutRanges = new Map<string, number>();
  /** Who sent what: other reads may be under way when one is found wrong. */
  const senders = new WeakMap<AsyncIterable<Uint8Array>, E>();

  const readAt = async (endpoint: E, offset: number, length: number, signal: AbortSignal) => {
    const key = endpointKey(endpoint);
    const range: RangeRequest = { offset, length, what, host: endpoint.url.host, errors };
    if (offset > MAX_SKIP && (withoutRanges.get(key) ?? 0) > performance.now()) throw noRanges(range);
    const headers = { range: rangeHeader(range), accept: '*/*', 'accept-encoding': 'identity' };
    const response = await object.request(endpoint, headers, signal);
    if (response.status === 200 && !isWhole(response, range)) withoutRanges.set(key, performance.now() + NO_RANGES);
    const skip = await checkRange(response, range);
    const stream = exactly(
      response,
      skip,
      range,
      {
        received: (bytes) => book.health.received(key, bytes),
        failed: (error) => noteFailure(book, endpoint, error, avoided),
      },
      () => (signal.aborted ? cancelled(what) : undefined),
    );
    senders.set(stream, endpoint);
    return stream;
  };

  return {
    name: object.name,
    ...(size === undefined ? {} : { size }),
    async read(offset, length, signal) {
      if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
        throw new NymphError('internal', `cannot read ${length} bytes at ${offset} of ${what}`);
      if (signal.aborted) throw cancelled(what);
      if (length === 0) return nothing();
      return firstOf(book, await object.endpoints(), avoided, (endpoint) => readAt(endpoint, offset, length, signal));
    },
    distrust(stream) {
      const sender = senders.get(stream);
      if (!sender) return;
      object.forget?.(sender);
      const { host } = sender.url;
      noteFailure(book, sender, new NymphError('corrupt', `${host} sent wrong bytes of ${what}`), avoided);
    },
  };
}

/** A range that is the whole object may well be answered with 200. */
function isWhole(response: HttpResponse, { offset, length }: RangeRequest): boolean {
  return offset === 0 && response.header('content-length') === String(length);
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
