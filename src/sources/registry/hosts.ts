import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { isLoopback } from '../http/loopback.ts';
import { type Certificates, cannotRead, loadTls } from '../http/tls.ts';
import { apiHost } from '../reference.ts';
import type { RegistryEndpoint } from './endpoint.ts';
import { type HostEntry, parseHostsFile } from './hosts-file.ts';

/**
 * Who answers for a registry host: mirrors in order, the registry itself last.
 *
 * As containerd reads it (docs/hosts.md): the first of `<dir>/<host>_<port>_`, `<dir>/<host>:<port>` and `<dir>/_default`
 * that exists counts. In it `hosts.toml`, or without one Docker's certificates: `*.crt` for CAs, `*.cert` with `*.key`
 * for clients.
 * @param host as in the reference: `docker.io`, `registry.example:5000`
 * @param plainHttp hosts (`host` or `host:port`) that are spoken to without TLS
 * @throws NymphError `config`
 */
export async function readEndpoints(
  host: string,
  configDirs: readonly string[],
  plainHttp: readonly string[],
): Promise<RegistryEndpoint[]> {
  const directory = await findDirectory(host, configDirs);
  const certificates = directory ? await dockerCertificates(directory) : undefined;
  const server = defaultServer(host, plainHttp, certificates !== undefined);
  const text = directory ? await readIfThere(join(directory, 'hosts.toml')) : undefined;
  if (!directory || text === undefined) {
    const tls = certificates && (await loadTls(certificates, directory!, false));
    return [upstream({ url: server, resolve: true, pull: true, headers: {}, upstream: true, ...(tls ? { tls } : {}) })];
  }
  const file = parseHostsFile(text, join(directory, 'hosts.toml'), server);
  const mirrors: RegistryEndpoint[] = [];
  for (const entry of file.mirrors) mirrors.push(await toEndpoint(entry, directory, host, false));
  const last = upstream(await toEndpoint(file.server, directory, host, true));
  return [...mirrors.filter((mirror) => mirror.url.href !== last.url.href), last];
}

function defaultServer(host: string, plainHttp: readonly string[], hasCertificates: boolean): URL {
  const url = new URL(`https://${apiHost(host)}/v2`);
  const listed = plainHttp.some((entry) => entry.toLowerCase() === host || entry.toLowerCase() === url.hostname);
  const local = isLoopback(url.hostname) && !host.endsWith(':443') && !hasCertificates;
  return listed || local ? new URL(`http://${apiHost(host)}/v2`) : url;
}

/** The registry is asked for whatever a mirror did not give, whatever its capabilities say. */
function upstream(endpoint: RegistryEndpoint): RegistryEndpoint {
  return { ...endpoint, resolve: true, pull: true, upstream: true };
}

async function findDirectory(host: string, configDirs: readonly string[]): Promise<string | undefined> {
  const colon = /:\d+$/.exec(host);
  const names = colon ? [`${host.slice(0, colon.index)}_${colon[0].slice(1)}_`, host] : [host];
  for (const directory of configDirs) {
    for (const name of [...names, '_default']) {
      const path = join(directory, name);
      try {
        if ((await stat(path)).isDirectory()) return path;
      } catch (error) {
        if (!isAbsent(error)) throw cannotRead(path, error);
      }
    }
  }
  return undefined;
}

async function toEndpoint(
  entry: HostEntry,
  directory: string,
  host: string,
  isServer: boolean,
): Promise<RegistryEndpoint> {
  const { url, headers, connectTimeout } = entry;
  const tls = url.protocol === 'https:' ? await loadTls(entry, directory, entry.skipVerify) : undefined;
  const isMirror = url.host !== host && url.host !== apiHost(host);
  return {
    url,
    resolve: entry.resolve,
    pull: entry.pull,
    headers,
    upstream: isServer,
    ...(isMirror ? { ns: host } : {}),
    ...(tls ? { tls } : {}),
    ...(connectTimeout === undefined ? {} : { connectTimeout }),
  };
}

async function dockerCertificates(directory: string): Promise<Certificates | undefined> {
  const names = (await readdir(directory)).sort();
  const ca = names.filter((name) => name.endsWith('.crt'));
  const client = names
    .filter((name) => name.endsWith('.cert'))
    .map((cert) => ({ cert, key: cert.replace(/\.cert$/, '.key') }));
  return ca.length + client.length === 0 ? undefined : { ca, client };
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch (error) {
    if (isAbsent(error)) return undefined;
    throw cannotRead(path, error);
  }
}

function isAbsent(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ENOENT' || code === 'ENOTDIR';
}
