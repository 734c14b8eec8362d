import type { NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import { endpointKey } from '../http/endpoint.ts';
import { openRanged } from '../http/ranged.ts';
import { discard, type HttpResponse } from '../http/request.ts';
import type { Source } from '../source.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import { ask, askTarget, type Question } from './exchange.ts';
import type { RegistryNetwork } from './network.ts';

/** Opens a blob of a registry for range reads. */
export function openBlob(
  network: RegistryNetwork,
  host: string,
  repository: string,
  digest: OciDigest,
  size: number | undefined,
): Source {
  /** Where the object really is (object storage), by the endpoint that said so. Their queries hold secrets. */
  const targets = new Map<string, URL>();
  const what = `blob ${digest}`;
  return openRanged<RegistryEndpoint>(network, {
    name: host,
    what,
    size,
    errors: REGISTRY_ERRORS,
    endpoints: async () => (await network.endpoints(host)).filter((endpoint) => endpoint.pull),
    request: (endpoint, headers, signal) =>
      requestRange(network, endpoint, targets, { repository, path: `blobs/${digest}`, headers, what }, signal),
    forget: (endpoint) => void targets.delete(endpointKey(endpoint)),
  });
}

/** Asks where the object was last; where that fails, or is not known yet, asks the endpoint itself. */
async function requestRange(
  network: RegistryNetwork,
  endpoint: RegistryEndpoint,
  targets: Map<string, URL>,
  question: Question,
  signal: AbortSignal,
): Promise<HttpResponse> {
  const key = endpointKey(endpoint);
  const target = targets.get(key);
  if (target) {
    const response = await askTarget(network, endpoint, target, question, signal).catch((error: NymphError) => {
      if (error.code === 'cancelled') throw error;
      return undefined;
    });
    if (response && (response.status === 200 || response.status === 206)) return response;
    // Signed addresses expire (401, 403, at times 400 or 404): the endpoint gives a new one.
    if (targets.get(key) === target) targets.delete(key);
    if (response) await discard(response);
  }
  const answer = await ask(network, endpoint, question, signal);
  if (answer.target && (answer.response.status === 200 || answer.response.status === 206))
    targets.set(key, answer.target);
  return answer.response;
}
