import { BlockList, isIP } from 'node:net';
import { isLoopback } from './loopback.ts';

/** Finds the proxy for an address; `undefined` = go there directly. */
export type ProxyFor = (url: URL) => string | undefined;

/**
 * Reads `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` (small letters win) as Go programs do: `NO_PROXY` holds names
 * (`example.com` and what is below it; `.example.com` only what is below it), with or without a port, addresses,
 * networks (`10.0.0.0/8`), or `*`. This machine itself is never reached through a proxy.
 */
export function proxyFromEnvironment(env: NodeJS.ProcessEnv = process.env): ProxyFor {
  const http = proxyUrl(env.http_proxy || env.HTTP_PROXY);
  const https = proxyUrl(env.https_proxy || env.HTTPS_PROXY);
  if (!http && !https) return () => undefined;
  const direct = parseNoProxy(env.no_proxy || env.NO_PROXY || '');
  return (url) => (isLoopback(url.hostname) || direct(url) ? undefined : url.protocol === 'https:' ? https : http);
}

function proxyUrl(text: string | undefined): string | undefined {
  if (!text) return undefined;
  const full = text.includes('://') ? text : `http://${text}`;
  return URL.canParse(full) ? full : undefined;
}

function parseNoProxy(text: string): (url: URL) => boolean {
  const entries = text.split(/[\s,]+/).filter((entry) => entry !== '');
  if (entries.includes('*')) return () => true;
  const networks = new BlockList();
  const names: { name: string; port: string }[] = [];
  for (const entry of entries) {
    const network = /^([0-9a-fA-F.:]+)\/(\d{1,3})$/.exec(entry);
    const family = network ? isIP(network[1]) : 0;
    if (network && family !== 0 && Number(network[2]) <= (family === 4 ? 32 : 128)) {
      networks.addSubnet(network[1], Number(network[2]), family === 4 ? 'ipv4' : 'ipv6');
      continue;
    }
    const port = isIP(entry) === 6 ? null : /:(\d+)$/.exec(entry);
    const name = (port ? entry.slice(0, port.index) : entry)
      .toLowerCase()
      .replace(/^\*\./, '.')
      .replace(/^\[|\]$/g, '');
    names.push({ name, port: port?.[1] ?? '' });
  }
  return (url) => {
    const host = url.hostname.toLowerCase().replace(/^\[|\]$/g, '');
    const family = isIP(host);
    if (family !== 0 && networks.check(host, family === 4 ? 'ipv4' : 'ipv6')) return true;
    const port = url.port || (url.protocol === 'https:' ? '443' : '80');
    return names.some(
      (entry) =>
        (entry.port === '' || entry.port === port) &&
        (host === entry.name || host.endsWith(entry.name.startsWith('.') ? entry.name : `.${entry.name}`)),
    );
  };
}
