import type { OciDigest } from '../../image/image.ts';
import { endpointKey } from '../http/endpoint.ts';
import { askWhereItWas, type Targets } from '../http/moved.ts';
import { openRanged } from '../http/ranged.ts';
import { discard } from '../http/request.ts';
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
  /** In object storage, by the endpoint that said so. */
  const targets: Targets = new Map();
  const what = `blob ${digest}`;
  const question: Question = { repository, path: `blobs/${digest}`, headers: PLAIN, what };
  const source = openRanged<RegistryEndpoint>(network, {
    name: host,
    what,
    size,
    errors: REGISTRY_ERRORS,
    endpoints: async () => (await network.endpoints(host)).filter((endpoint) => endpoint.pull),
    request: (endpoint, headers, signal) => {
      const ranged: Question = { ...question, headers };
      return askWhereItWas(
        targets,
        endpointKey(endpoint),
        (target) => askTarget(network, endpoint, target, ranged, signal),
        () => ask(network, endpoint, ranged, signal),
      );
    },
    forget: (endpoint) => void targets.delete(endpointKey(endpoint)),
  });
  return { ...source, location: (signal, refusals) => locate(network, host, question, refusals, signal) };
}

const PLAIN = { accept: '*/*', 'accept-encoding': 'identity' };

/** The registry's own address of a blob: nodes with other mirrors know it by the same. */
async function locate(
  network: RegistryNetwork,
  host: string,
  question: Question,
  refusals: number,
  signal: AbortSignal,
): Promise<ObjectLocation | undefined> {
  if (refusals > 1) return undefined;
  const endpoint = (await network.endpoints(host)).find(({ upstream, pull }) => upstream && pull);
  // A client certificate cannot be lent.
  if (endpoint === undefined || endpoint.tls?.client !== undefined || endpoint.socketPath !== undefined)
    return undefined;
  if (refusals > 0) {
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
