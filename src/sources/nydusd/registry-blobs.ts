import { createAuthorizer } from '../registry/auth.ts';
import { openBlob } from '../registry/blob.ts';
import { hubNames } from '../registry/credential.ts';
import type { RegistryEndpoint } from '../registry/endpoint.ts';
import { apiUrl } from '../registry/hosts-file.ts';
import type { RegistryNetwork } from '../registry/network.ts';
import type { RegistryBackend } from './backend.ts';
import type { OpenBlob } from './blobs.ts';
import { createConnector } from './connect.ts';

/**
 * Blobs of a registry. What the configuration says is stronger than `hosts.toml`, which counts where it says nothing:
 * its mirrors come first, then those of `hosts.toml`, then the registry, through the proxy and without.
 * @param file the configuration's, for hints
 */
export function openRegistryBlobs(backend: RegistryBackend, network: RegistryNetwork, file: string): OpenBlob {
  const { repository, scheme, credentials, redirected } = backend;
  const host = hubNames(backend.host)[0];
  const connector = createConnector(backend.connection);
  const mirrors = backend.mirrors.map(
    ({ url, headers }): RegistryEndpoint => ({
      url: apiUrl(url.href, false) ?? url,
      resolve: false,
      pull: true,
      upstream: false,
      headers,
    }),
  );

  /** Who may have the login: the hosts that the configuration names. */
  const hosts = new Set(mirrors.map(({ url }) => url.host));

  const endpoints = async (): Promise<readonly RegistryEndpoint[]> => {
    const known = await network.endpoints(host);
    const upstream = known[known.length - 1];
    hosts.add(upstream.url.host);
    const tls = (await connector.tls()) ?? upstream.tls;
    const url = new URL(upstream.url);
    if (scheme !== undefined) url.protocol = scheme;
    return [
      ...mirrors,
      ...known.slice(0, -1),
      ...connector.ways({ ...upstream, url, redirected, ...(tls ? { tls } : {}) }),
    ];
  };

  const own: RegistryNetwork = { ...network, endpoints };
  if (credentials.length === 0) return (digest, size) => openBlob(own, host, repository, digest, size);
  const authorizer = createAuthorizer({
    send: (endpoint, request, signal) => network.transport.send(request, endpoint, signal),
    async *findCredentials(asking) {
      // The mirrors of hosts.toml are somebody else's.
      if (!hosts.has(asking)) return;
      for (const credential of credentials) yield { credential, from: file };
    },
  });
  return (digest, size) => openBlob({ ...own, authorizer }, host, repository, digest, size);
}
