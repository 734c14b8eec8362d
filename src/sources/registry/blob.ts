import type { NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import { endpointKey } from '../http/endpoint.ts';
import { openRanged } from '../http/ranged.ts';
import { discard, type HttpResponse } from '../http/request.ts';
import type { Source } from '../source.ts';
import type { ObjectLocation } from '../swarm.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import { addressOf, ask, askTarget, type Question } from './exchange.ts';
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
  const source = openRanged<RegistryEndpoint>(network, {
    name: host,
    what,
    size,
    errors: REGISTRY_ERRORS,
    endpoints: async () => (await network.endpoints(host)).filter((endpoint) => endpoint.pull),
    request: (endpoint, headers, signal) =>
      requestRange(network, endpoint, targets, { repository, path: `blobs/${digest}`, headers, what }, signal),
    forget: (endpoint) => void targets.delete(endpointKey(endpoint)),
  });
  const question: Question = { repository, path: `blobs/${digest}`, headers: PLAIN, what };
  return { ...source, location: (signal, refused) => locate(network, host, question, refused, signal) };
}

const PLAIN = { accept: '*/*', 'accept-encoding': 'identity' };

/** The registry's own address of a blob: nodes with other mirrors know it by the same. */
async function locate(
  network: RegistryNetwork,
  host: string,
  question: Question,
  refused: boolean,
  signal: AbortSignal,
): Promise<ObjectLocation | undefined> {
  const endpoint = (await network.endpoints(host)).find(({ upstream, pull }) => upstream && pull);
  // A client certificate cannot be lent.
  if (endpoint === undefined || endpoint.tls?.client !== undefined || endpoint.socketPath !== undefined)
    return undefined;
  if (refused) {
    // Its first byte: a request of our own gets whatever login there is now.
    const { response } = await ask(
      network,
      endpoint,
      { ...question, headers: { ...PLAIN, range: 'bytes=0-0' } },
      signal,
    );
    await discard(response);
  }
  const scope = { repository: question.repository, access: 'pull' as const };
  const authorization = await network.authorizer.current(endpoint, scope, signal);
  const own = Object.entries(endpoint.headers).map(([name, value]) => [name.toLowerCase(), [value].flat().join(', ')]);
  return {
    url: addressOf(endpoint, question),
    headers: { ...PLAIN, ...Object.fromEntries(own), ...(authorization === undefined ? {} : { authorization }) },
    certificates: endpoint.tls?.ca ?? [],
  };
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
