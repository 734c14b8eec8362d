import { NymphError } from '../../errors.ts';
import type { Endpoint } from './endpoint.ts';
import type { RegistryNetwork } from './network.ts';

/** Endpoints that have said no for one object; kept by who reads the object. Unix time in ms until when. */
export type Avoided = Map<string, number>;

/** How long an endpoint that lacks an object, or refuses it, is asked after the others, ms. */
const AVOID = 60_000;

/**
 * Asks one endpoint after the other until one gives what is wanted: mirrors in order, those that rest left out, the
 * registry itself last. Each is asked once. Keeps the book of health.
 * @throws the last error; retryable if any was
 */
export async function firstOf<T>(
  network: RegistryNetwork,
  host: string,
  role: 'pull' | 'resolve',
  avoided: Avoided,
  attempt: (endpoint: Endpoint) => Promise<T>,
): Promise<T> {
  const errors: NymphError[] = [];
  for (const endpoint of order(network, await network.endpoints(host), role, avoided)) {
    try {
      const result = await attempt(endpoint);
      network.health.succeeded(endpoint.url.href);
      avoided.delete(endpoint.url.href);
      return result;
    } catch (error) {
      if (!(error instanceof NymphError) || error.code === 'cancelled') throw error;
      errors.push(error);
      noteFailure(network, endpoint, error, avoided);
    }
  }
  throw joined(errors);
}

/** Writes a failure into the book: a host that cannot answer rests; one that lacks an object, or has it wrong, is avoided for it. */
export function noteFailure(network: RegistryNetwork, endpoint: Endpoint, error: NymphError, avoided: Avoided): void {
  const objectOnly = ['not-found', 'denied', 'unsupported', 'corrupt'].includes(error.code);
  if (objectOnly) avoided.set(endpoint.url.href, Date.now() + AVOID);
  else network.health.failed(endpoint.url.href, error);
  const fields = { host: endpoint.url.host, error: error.message };
  if (endpoint.upstream || error.code === 'not-found') network.log.debug(fields, 'a registry failed');
  else network.log.warn(fields, 'a registry mirror failed');
}

function order(
  network: RegistryNetwork,
  endpoints: readonly Endpoint[],
  role: 'pull' | 'resolve',
  avoided: Avoided,
): Endpoint[] {
  const usable = endpoints.filter(
    (endpoint) => endpoint[role] && (endpoint.upstream || !network.health.isResting(endpoint.url.href)),
  );
  const last = (endpoint: Endpoint) => (avoided.get(endpoint.url.href) ?? 0) > Date.now();
  return [...usable.filter((endpoint) => !last(endpoint)), ...usable.filter(last)];
}

function joined(errors: NymphError[]): NymphError {
  // The registry itself is asked last; an endpoint that was avoided may come behind it and has said no before.
  const main = errors.find((error) => error.retryable) ?? errors.at(-1)!;
  if (errors.length === 1) return main;
  const others = errors.filter((error) => error !== main).map((error) => error.message);
  const message = `${main.message}; before: ${others.join('; ')}`;
  const { hint, retryable, retryAfter } = main;
  return new NymphError(main.code, message, { hint, retryable, retryAfter, cause: main });
}
