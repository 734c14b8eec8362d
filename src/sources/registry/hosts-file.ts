import { parse } from 'smol-toml';
import { NymphError } from '../../errors.ts';
import { apiHost } from '../reference.ts';

/** One host of a `hosts.toml`: paths as written, relative to its directory. */
export interface HostEntry {
  url: URL;
  resolve: boolean;
  pull: boolean;
  ca: string[];
  /** Certificate and key; the key is in the certificate's file where it is not named. */
  client: { cert: string; key?: string }[];
  skipVerify: boolean;
  headers: Record<string, string | string[]>;
  connectTimeout?: number;
}

export interface HostsFile {
  /** Mirrors, in the order of the file. */
  mirrors: HostEntry[];
  /** The registry itself; its `url` is the default where the file has no `server`. */
  server: HostEntry;
}

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/**
 * Reads containerd's `hosts.toml` (containerd docs/hosts.md). Fields that only matter for pushing are passed over.
 * @param file path, for errors; @param server address of the registry itself where the file does not say
 * @throws NymphError `config`
 */
export function parseHostsFile(text: string, file: string, server: URL): HostsFile {
  let root: unknown;
  try {
    root = parse(text);
  } catch (cause) {
    throw new NymphError('config', `${file}: ${firstLine(cause)}`, { cause });
  }
  const top = table(root, file, 'the file');
  const url = top.server === undefined ? server : parseUrl(top.server, file, top.override_path === true, 'server');
  const hosts = top.host === undefined ? {} : table(top.host, file, 'host');
  return {
    mirrors: Object.entries(hosts).map(([name, value]) => {
      const entry = table(value, file, `host.${JSON.stringify(name)}`);
      return parseEntry(entry, parseUrl(name, file, entry.override_path === true, 'host'), file);
    }),
    server: parseEntry(top, url, file),
  };
}

/**
 * The address of a registry's API: `/v2` is added where a path does not end in it, unless the file overrides paths.
 * `https://docker.io`, as many examples have it, means Docker Hub's API.
 */
export function apiUrl(text: string, overridePath: boolean): URL | undefined {
  const full = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `https://${text}`;
  const url = URL.canParse(full) ? new URL(full) : undefined;
  if (!url || (url.protocol !== 'https:' && url.protocol !== 'http:') || url.host === '') return undefined;
  if (url.username || url.password || url.search || url.hash) return undefined;
  url.host = apiHost(url.host);
  const path = url.pathname.replace(/\/+$/, '');
  url.pathname = overridePath || path.endsWith('/v2') ? path : `${path}/v2`;
  return url;
}

function parseUrl(value: unknown, file: string, overridePath: boolean, field: string): URL {
  const url = typeof value === 'string' ? apiUrl(value, overridePath) : undefined;
  if (url) return url;
  throw wrong(file, field, 'is not an http or https address without user, password and query');
}

function parseEntry(entry: Record<string, unknown>, url: URL, file: string): HostEntry {
  const name = `of ${url.host}`;
  const capabilities =
    entry.capabilities === undefined ? [] : strings(entry.capabilities, file, `capabilities ${name}`);
  const can = (capability: string) => capabilities.length === 0 || capabilities.includes(capability);
  if (entry.skip_verify !== undefined && typeof entry.skip_verify !== 'boolean')
    throw wrong(file, `skip_verify ${name}`, 'is not true or false');
  const connectTimeout = entry.dial_timeout === undefined ? undefined : parseDuration(entry.dial_timeout, file, name);
  return {
    url,
    resolve: can('resolve'),
    pull: can('pull'),
    ca: entry.ca === undefined ? [] : strings(entry.ca, file, `ca ${name}`),
    client: clients(entry.client, file, `client ${name}`),
    skipVerify: entry.skip_verify === true,
    headers: headers(entry.header, file, `header ${name}`),
    ...(connectTimeout === undefined ? {} : { connectTimeout }),
  };
}

function clients(value: unknown, file: string, field: string): HostEntry['client'] {
  if (value === undefined) return [];
  if (typeof value === 'string') return [{ cert: value }];
  if (!Array.isArray(value)) throw wrong(file, field, 'is not a path or a list of paths');
  return value.map((pair) => {
    if (typeof pair === 'string') return { cert: pair };
    const [cert, key, ...rest] = strings(pair, file, field);
    if (!cert || rest.length > 0) throw wrong(file, field, 'is not a list of [certificate, key]');
    return key ? { cert, key } : { cert };
  });
}

function headers(value: unknown, file: string, field: string): HostEntry['headers'] {
  if (value === undefined) return {};
  const result: HostEntry['headers'] = {};
  for (const [name, given] of Object.entries(table(value, file, field))) {
    const values = strings(given, file, field);
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || values.some((text) => /[^\t\x20-\x7e\x80-\xff]/.test(text)))
      throw wrong(file, field, `has a header that cannot be sent: ${JSON.stringify(name).slice(0, 80)}`);
    result[name.toLowerCase()] = values;
  }
  return result;
}

function strings(value: unknown, file: string, field: string): string[] {
  if (typeof value === 'string') return [value];
  if (Array.isArray(value) && value.every((entry) => typeof entry === 'string')) return value;
  throw wrong(file, field, 'is not a text or a list of texts');
}

function table(value: unknown, file: string, field: string): Record<string, unknown> {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw wrong(file, field, 'is not a table');
}

function parseDuration(value: unknown, file: string, name: string): number {
  const match = typeof value === 'string' ? /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(value) : null;
  if (!match) throw wrong(file, `dial_timeout ${name}`, 'is not a duration like "5s"');
  return Number(match[1]) * UNITS[match[2]];
}

function wrong(file: string, field: string, why: string): NymphError {
  return new NymphError('config', `${file}: ${field} ${why}`, {
    hint: 'See the registry configuration in containerd’s documentation (hosts.toml).',
  });
}

function firstLine(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n', 1)[0];
}
