import { digestHex } from '../digest.ts';
import type { Endpoint } from '../http/endpoint.ts';
import { placeErrors } from '../http/errors.ts';
import { type HttpNetwork, send } from '../http/network.ts';
import { openRanged } from '../http/ranged.ts';
import { isRedirect, MAX_HOPS, redirectTarget, tooManyHops } from '../http/redirect.ts';
import { discard, type HttpResponse } from '../http/request.ts';
import type { HttpBackend } from './backend.ts';
import type { OpenBlob } from './blobs.ts';
import { createConnector } from './connect.ts';

const ERRORS = placeErrors(
  {
    denied: () => 'The server wants a login: nymph has none for it.',
    limited: 'The server limits requests.',
    trust: 'Name the CA in `ca_cert_files`, or add it to the trusted certificates of this machine.',
    plain: 'Write `http://…` in `addr` if the server has no TLS.',
  },
  () => '',
);

/** Blobs of an HTTP server: `GET <addr><path>/<blob id>` with a range (nydus `docs/nydusd.md`, "HTTP Proxy Backend"). */
export function openHttpBlobs({ address, path, connection }: HttpBackend, network: HttpNetwork): OpenBlob {
  const connector = createConnector(connection);
  const socketPath = 'socketPath' in address ? address.socketPath : undefined;
  const base = 'url' in address ? address.url : new URL('http://localhost');
  const name = socketPath ?? base.host;

  const endpoints = async (): Promise<readonly Endpoint[]> => {
    // The path keeps the health of two sockets apart.
    if (socketPath !== undefined) return [{ url: new URL(socketPath, base), upstream: true, socketPath }];
    return connector.ways({ url: base, upstream: true, tls: await connector.tls() });
  };

  async function get(
    endpoint: Endpoint,
    start: URL,
    headers: Record<string, string>,
    what: string,
    signal: AbortSignal,
  ): Promise<HttpResponse> {
    let url = start;
    for (let hop = 0; hop <= MAX_HOPS; hop++) {
      const response = await send(network, { method: 'GET', url, headers }, endpoint, ERRORS, what, signal);
      if (!isRedirect(response)) return response;
      url = await redirectTarget(response, url, what);
    }
    throw tooManyHops(start.host, what);
  }

  return (digest, size) => {
    const what = `blob ${digest}`;
    const folder = `${base.pathname.replace(/\/+$/, '')}/${path}`.replace(/\/{2,}/g, '/').replace(/\/$/, '');
    const target = `${folder}/${digestHex(digest)}`;
    return openRanged<Endpoint>(network, {
      name,
      what,
      size,
      errors: ERRORS,
      endpoints,
      async request(endpoint, headers, signal) {
        const { origin } = socketPath === undefined ? endpoint.url : base;
        const response = await get(endpoint, new URL(target, origin), headers, what, signal);
        // nydusd itself asks a socket for `/`, whatever the blob: servers that were made for it may know nothing else.
        if (response.status !== 404 || socketPath === undefined) return response;
        await discard(response);
        return get(endpoint, base, headers, what, signal);
      },
    });
  };
}
