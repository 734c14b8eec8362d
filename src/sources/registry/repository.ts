import { setImmediate } from 'node:timers/promises';
import { corrupt, NymphError } from '../../errors.ts';
import type { OciDigest } from '../../image/image.ts';
import {
  DOCKER_INDEX,
  DOCKER_MANIFEST,
  MANIFEST_LIMIT,
  OCI_INDEX,
  OCI_MANIFEST,
  parseIndex,
  parseJsonObject,
} from '../descriptor.ts';
import { isDigest, sha256Digest, startDigest } from '../digest.ts';
import { endpointKey } from '../http/endpoint.ts';
import { type Avoided, firstOf } from '../http/failover.ts';
import { contentLength, type HttpResponse } from '../http/request.ts';
import { formatReference, type RegistryReference } from '../reference.ts';
import { cancelled, retry, SMALL_OBJECT_RETRY } from '../retry.ts';
import type { Descriptor, Manifest, Repository } from '../source.ts';
import { referrersTag } from '../target.ts';
import { openBlob } from './blob.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { REGISTRY_ERRORS } from './errors.ts';
import { ask, type Question } from './exchange.ts';
import type { RegistryNetwork } from './network.ts';

const ACCEPT = [OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST, DOCKER_INDEX].join(', ');

/** A repository of an OCI registry (distribution-spec 1.1, "Pull"). `close` leaves the shared network open. */
export function openRegistryRepository(reference: RegistryReference, network: RegistryNetwork): Repository {
  const { host, repository } = reference;
  const avoided: Avoided = new Map();

  const withRetries = <T>(
    role: 'pull' | 'resolve',
    signal: AbortSignal,
    attempt: (endpoint: RegistryEndpoint) => Promise<T>,
  ) =>
    retry(SMALL_OBJECT_RETRY, signal, async () => {
      const endpoints = (await network.endpoints(host)).filter((endpoint) => endpoint[role]);
      return firstOf(network, endpoints, avoided, attempt);
    });

  const fetchManifest = (name: string, digest: OciDigest | undefined, signal: AbortSignal): Promise<Manifest> => {
    const what = `manifest ${host}/${repository}${digest ? '@' : ':'}${name}`;
    const question: Question = {
      repository,
      path: `manifests/${name}`,
      headers: { accept: ACCEPT, 'accept-encoding': 'identity' },
      what,
    };
    return withRetries(digest ? 'pull' : 'resolve', signal, async (endpoint) => {
      const { response } = await ask(network, endpoint, question, signal);
      const bytes = await readBody(network, endpoint, response, what, undefined, MANIFEST_LIMIT, signal);
      const served = response.header('docker-content-digest')?.trim();
      return checkManifest(bytes, response.header('content-type'), served, digest, what, endpoint.url.host);
    });
  };

  const fetchIndex = (path: string, what: string, signal: AbortSignal): Promise<Descriptor[]> => {
    const headers = { accept: OCI_INDEX, 'accept-encoding': 'identity' };
    return withRetries('resolve', signal, async (endpoint) => {
      const { response } = await ask(network, endpoint, { repository, path, headers, what }, signal);
      const bytes = await readBody(network, endpoint, response, what, undefined, MANIFEST_LIMIT, signal);
      return parseIndex(bytes, what);
    });
  };

  return {
    kind: 'registry',
    reference: formatReference(reference),
    resolve: (signal) => fetchManifest(reference.digest ?? reference.tag ?? 'latest', reference.digest, signal),
    manifest: (digest, signal) => fetchManifest(digest, digest, signal),
    async referrers(digest, signal) {
      try {
        return await fetchIndex(`referrers/${digest}`, `referrers of ${digest}`, signal);
      } catch (error) {
        // Registries that do not know the question answer in many ways.
        if (
          !(error instanceof NymphError) ||
          error.retryable ||
          !['not-found', 'source', 'corrupt'].includes(error.code)
        )
          throw error;
      }
      try {
        return await fetchIndex(`manifests/${referrersTag(digest)}`, `referrers of ${digest}`, signal);
      } catch (error) {
        if (error instanceof NymphError && error.code === 'not-found') return [];
        throw error;
      }
    },
    get({ digest, size }, limit, signal) {
      const what = `blob ${digest}`;
      if (size > limit) return Promise.reject(corrupt(what, 'size', 0, `is ${size}, more than ${limit}`));
      const headers = { accept: '*/*', 'accept-encoding': 'identity' };
      const question: Question = { repository, path: `blobs/${digest}`, headers, what };
      return withRetries('pull', signal, async (endpoint) => {
        const { response } = await ask(network, endpoint, question, signal);
        return readBody(network, endpoint, response, what, { digest, size }, limit, signal);
      });
    },
    open: ({ digest, size }) => openBlob(network, host, repository, digest, size),
    close: async () => {},
  };
}

/** A whole body of at most `limit` bytes; of exactly the given size and digest where they are known. */
async function readBody(
  network: RegistryNetwork,
  endpoint: RegistryEndpoint,
  response: HttpResponse,
  what: string,
  expected: Pick<Descriptor, 'digest' | 'size'> | undefined,
  limit: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { host } = endpoint.url;
  const broken = (why: string) => new NymphError('source', `${host} sent ${what} wrongly: ${why}`, { retryable: true });
  if (response.status !== 200) throw await REGISTRY_ERRORS.status(response, what, host);
  const chunks: Uint8Array[] = [];
  const digest = startDigest();
  const most = expected?.size ?? limit;
  let size = 0;
  try {
    const encoding = response.header('content-encoding')?.trim().toLowerCase();
    if (encoding && encoding !== 'identity') throw broken(`its bytes are encoded (${encoding.slice(0, 40)})`);
    const declared = contentLength(response);
    if (declared !== undefined && (expected ? declared !== most : declared > most))
      throw wrongSize(what, host, declared, most);
    for await (const chunk of response.body) {
      size += chunk.length;
      if (size > most) throw broken(`more than ${most} bytes`);
      digest.update(chunk);
      chunks.push(chunk);
    }
  } catch (error) {
    await response.body.return?.();
    if (signal.aborted) throw cancelled(what);
    throw REGISTRY_ERRORS.transport(error, what, host);
  }
  // undici gives the connection back one turn later: whoever asks at once would open another, for a round trip or three.
  await setImmediate();
  if (expected && size !== expected.size) throw broken(`${size} bytes instead of ${expected.size}`);
  if (expected && digest.digest() !== expected.digest) throw wrongDigest(what, host);
  network.health.received(endpointKey(endpoint), size);
  return Buffer.concat(chunks, size);
}

function checkManifest(
  bytes: Uint8Array,
  contentType: string | undefined,
  served: string | undefined,
  wanted: OciDigest | undefined,
  what: string,
  host: string,
): Manifest {
  const digest = sha256Digest(bytes);
  if (wanted && wanted !== digest) throw wrongDigest(what, host);
  if (isDigest(served) && served !== digest) throw wrongDigest(what, host);
  const { mediaType } = parseJsonObject(bytes, what);
  const named = typeof mediaType === 'string' ? mediaType : contentType?.split(';', 1)[0].trim();
  return { descriptor: { mediaType: named || OCI_MANIFEST, digest, size: bytes.length }, bytes };
}

/** A server that says so beforehand has another object: it will say the same again. */
function wrongSize(what: string, host: string, size: number, expected: number): NymphError {
  return new NymphError('corrupt', `${what} at ${host} has ${size} bytes; ${expected} were expected`);
}

function wrongDigest(what: string, host: string): NymphError {
  return new NymphError('corrupt', `${host} sent wrong bytes of ${what}: they do not have its digest`, {
    retryable: true,
  });
}
