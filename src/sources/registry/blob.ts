import { NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import { cancelled } from '../retry.ts';
import type { Source } from '../source.ts';
import type { Endpoint } from './endpoint.ts';
import { ask, askTarget, type Question } from './exchange.ts';
import { type Avoided, firstOf, noteFailure } from './failover.ts';
import { discard, type HttpResponse } from './http.ts';
import type { RegistryNetwork } from './network.ts';
import { checkRange, exactly, MAX_SKIP, noRanges, type RangeRequest, rangeHeader } from './range.ts';

/** For how long a server that ignored `Range` is taken not to know it, ms. Caching mirrors learn it once they are full. */
const NO_RANGES = 60_000;

/** What was learnt about one object at one endpoint. */
interface Place {
  /** Where the object really is (object storage). Holds secrets in its query. */
  target?: URL;
  /** Unix time in ms until which ranges far inside are not asked for. */
  withoutRangesUntil: number;
}

/**
 * Opens a blob of a registry for range reads. `read` asks each endpoint at most once, and none again: a reader whose
 * stream breaks asks for the rest.
 */
export function openBlob(
  network: RegistryNetwork,
  host: string,
  repository: string,
  digest: OciDigest,
  size: number | undefined,
): Source {
  const what = `blob ${digest}`;
  const avoided: Avoided = new Map();
  const places = new Map<string, Place>();
  /** Who sent what: other reads may be under way when one is found wrong. */
  const senders = new WeakMap<AsyncIterable<Uint8Array>, Endpoint>();

  const readAt = async (endpoint: Endpoint, offset: number, length: number, signal: AbortSignal) => {
    const place = placeOf(places, endpoint);
    const request: RangeRequest = { offset, length, what, host: endpoint.url.host };
    if (offset > MAX_SKIP && place.withoutRangesUntil > Date.now()) throw noRanges(request);
    const headers = { range: rangeHeader(request), accept: '*/*', 'accept-encoding': 'identity' };
    const question: Question = { repository, path: `blobs/${digest}`, headers, what };
    const response = await request206(network, endpoint, place, question, signal);
    if (response.status === 200 && !isWhole(response, request)) place.withoutRangesUntil = Date.now() + NO_RANGES;
    const skip = await checkRange(response, request);
    const { href } = endpoint.url;
    const stream = exactly(
      response,
      skip,
      request,
      {
        received: (bytes) => network.health.received(href, bytes),
        failed: (error) => noteFailure(network, endpoint, error, avoided),
      },
      () => (signal.aborted ? cancelled(what) : undefined),
    );
    senders.set(stream, endpoint);
    return stream;
  };

  return {
    name: host,
    ...(size === undefined ? {} : { size }),
    async read(offset, length, signal) {
      if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0)
        throw new NymphError('internal', `cannot read ${length} bytes at ${offset} of ${what}`);
      if (signal.aborted) throw cancelled(what);
      if (length === 0) return nothing();
      return firstOf(network, host, 'pull', avoided, (endpoint) => readAt(endpoint, offset, length, signal));
    },
    distrust(stream) {
      const sender = senders.get(stream);
      if (!sender) return;
      placeOf(places, sender).target = undefined;
      noteFailure(network, sender, wrongBytes(what, sender.url.host), avoided);
    },
  };
}

/** Asks where the object was last; where that fails, or is not known yet, asks the endpoint itself. */
async function request206(
  network: RegistryNetwork,
  endpoint: Endpoint,
  place: Place,
  question: Question,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const { target } = place;
  if (target) {
    const response = await askTarget(network, endpoint, target, question, signal).catch((error: NymphError) => {
      if (error.code === 'cancelled') throw error;
      return undefined;
    });
    if (response && (response.status === 200 || response.status === 206)) return response;
    // Signed addresses expire (401, 403, at times 400 or 404): the endpoint gives a new one.
    if (place.target === target) place.target = undefined;
    if (response) await discard(response);
  }
  const answer = await ask(network, endpoint, question, signal);
  if (answer.target && (answer.response.status === 200 || answer.response.status === 206)) place.target = answer.target;
  return answer.response;
}

/** A range that is the whole object may well be answered with 200. */
function isWhole(response: HttpResponse, { offset, length }: RangeRequest): boolean {
  return offset === 0 && response.header('content-length') === String(length);
}

function placeOf(places: Map<string, Place>, endpoint: Endpoint): Place {
  let place = places.get(endpoint.url.href);
  if (!place) {
    place = { withoutRangesUntil: 0 };
    places.set(endpoint.url.href, place);
  }
  return place;
}

function wrongBytes(what: string, host: string): NymphError {
  return new NymphError('corrupt', `${host} sent wrong bytes of ${what}`);
}

async function* nothing(): AsyncGenerator<Uint8Array> {}
