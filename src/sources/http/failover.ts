import { NymphError } from '../../errors.ts';
import type { Log } from '../log.ts';
import { type Endpoint, endpointKey } from './endpoint.ts';
import type { HealthBook } from './health.ts';

/** What is remembered of hosts, over all objects. */
export interface HostBook {
  readonly health: HealthBook;
  readonly log: Log;
}

/** Endpoints that have said no for one object; kept by who reads the object. Unix time in ms until when. */
export type Avoided = Map<string, number>;

/** How long an endpoint that lacks an object, or refuses it, is asked after the others, ms. */
const AVOID = 60_000;

/**
 * Asks one endpoint after the other until one gives what is wanted: in order, those that rest left out, the upstream
 * last. Each is asked once. Keeps the book of health.
 * @throws the last error; retryable if any was
 */
export async function firstOf<E extends Endpoint, T>(
  book: HostBook,
  endpoints: readonly E[],
  avoided: Avoided,
  attempt: (endpoint: E) => Promise<T>,
): Promise<T> {
  const errors: NymphError[] = [];
  for (const endpoint of order(book, endpoints, avoided)) {
    const key = endpointKey(endpoint);
    try {
      const result = await attempt(endpoint);
      book.health.succeeded(key);
      avoided.delete(key);
      return result;
    } catch (error) {
      if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
      errors.push(error);
      noteFailure(book, endpoint, error, avoided);
    }
  }
  throw joined(errors);
}

/** Writes a failure into the book: a host that cannot answer rests; one that lacks an object, or has it wrong, is avoided for it. */
export function noteFailure(book: HostBook, endpoint: Endpoint, error: NymphError, avoided: Avoided): void {
  const key = endpointKey(endpoint);
  const objectOnly = ['not-found', 'denied', 'unsupported', 'corrupt'].includes(error.code);
  if (objectOnly) avoided.set(key, performance.now() + AVOID);
  else book.health.failed(key, error);
  const fields = { host: endpoint.url.host, error: error.message };
  if (endpoint.upstream || error.code === 'not-found') book.log.debug(fields, 'a registry failed');
  else book.log.warn(fields, endpoint.proxy === undefined ? 'a registry mirror failed' : 'a proxy failed');
}

function order<E extends Endpoint>(book: HostBook, endpoints: readonly E[], avoided: Avoided): E[] {
  const usable = endpoints.filter((endpoint) => endpoint.upstream || !book.health.isResting(endpointKey(endpoint)));
  const last = (endpoint: E) => (avoided.get(endpointKey(endpoint)) ?? 0) > performance.now();
  return [...usable.filter((endpoint) => !last(endpoint)), ...usable.filter(last)];
}

function joined(errors: NymphError[]): NymphError {
  // The upstream is asked last; an endpoint that was avoided may come behind it and has said no before.
  const main = errors.find((error) => error.retryable) ?? errors.at(-1)!;
  if (errors.length === 1) return main;
  const others = errors.filter((error) => error !== main).map((error) => error.message);
  const message = `${main.message}; before: ${others.join('; ')}`;
  const { hint, retryable, retryAfter } = main;
  return new NymphError(main.code, message, { hint, retryable, retryAfter, cause: main });
}
