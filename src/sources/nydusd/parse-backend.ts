import { isIP } from 'node:net';
import { isAbsolute } from 'node:path';
import { NymphError } from '../../errors.ts';
import type { Credential } from '../registry/credential.ts';
import type {
  Backend,
  Connection,
  HttpBackend,
  LocalBackend,
  ObjectBackend,
  ProxySettings,
  RegistryBackend,
} from './backend.ts';
import type { Fields } from './fields.ts';

const S3_ENDPOINT = 's3.amazonaws.com';
const LONGEST = 3600;
const HOST = /^(?:[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?|\[[0-9a-fA-F:.]+\])(?::\d{1,5})?$/;
const BUCKET = /^[A-Za-z0-9][A-Za-z0-9._-]{1,62}$/;

const RETRIES = 'a read is tried again until fetch.deadline';
const HEALTH = 'a proxy or mirror that fails rests for a while, and is tried again by what is read';
const REASONS: Record<string, string> = {
  retry_limit: RETRIES,
  readahead: 'nymph reads ahead of sequential readers by itself',
  readahead_sec: 'nymph reads ahead of sequential readers by itself',
};
const PROXY_REASONS: Record<string, string> = {
  ping_url: HEALTH,
  check_interval: HEALTH,
  check_pause_elapsed: HEALTH,
  dragonfly_scheduler_endpoint: 'the proxy alone is asked',
};
const MIRROR_REASONS: Record<string, string> = {
  ping_url: HEALTH,
  health_check_interval: HEALTH,
  failure_limit: HEALTH,
  auth_through: 'a mirror that wants a login gets the registry’s',
};

/** @param fields `backend` of a configuration; @param named version 2: the settings are in a section named like the type */
export function parseBackend(fields: Fields, named: boolean): Backend {
  const type = fields.needed('type');
  const parser = Object.hasOwn(PARSERS, type) ? PARSERS[type] : undefined;
  if (parser === undefined)
    throw new NymphError(
      'unsupported',
      `${fields.wrong('type', `is ${JSON.stringify(type)}`).message}, which nymph does not have`,
      {
        hint: `nymph has ${Object.keys(PARSERS).join(', ')}.`,
      },
    );
  const section = fields.object(named ? type : 'config');
  if (section === undefined) throw fields.wrong(named ? type : 'config', 'is missing');
  const backend = parser(section);
  section.idle(REASONS);
  fields.idle(Object.fromEntries([...Object.keys(PARSERS), 'localdisk'].map((name) => [name, `the type is ${type}`])));
  return backend;
}

const PARSERS: Record<string, (fields: Fields) => Backend> = {
  registry: parseRegistry,
  oss: (fields) => parseObjectStorage(fields, 'oss'),
  s3: (fields) => parseObjectStorage(fields, 's3'),
  localfs: parseLocal,
  'http-proxy': parseHttp,
};

function parseRegistry(fields: Fields): RegistryBackend {
  const filled = 'nydus-snapshotter fills it in for each image; write host and repo of this one.';
  const repository = fields.needed('repo', filled);
  if (!/^[A-Za-z0-9._/-]+$/.test(repository) || /(^|\/)\.{0,2}(\/|$)/.test(repository))
    throw fields.wrong('repo', 'is not the name of a repository');
  const scheme = parseScheme(fields, 'scheme');
  const redirectHost = fields.text('blob_redirected_host');
  if (redirectHost !== undefined && !HOST.test(redirectHost))
    throw fields.wrong('blob_redirected_host', 'is not a host');
  const redirectScheme = parseScheme(fields, 'blob_url_scheme');
  return {
    kind: 'registry',
    host: parseHost(fields, 'host', fields.needed('host', filled)),
    repository,
    ...(scheme ? { scheme } : {}),
    credentials: parseCredentials(fields),
    mirrors: fields.objects('mirrors').map(parseMirror),
    redirected: {
      ...(redirectHost ? { host: redirectHost } : {}),
      ...(redirectScheme ? { scheme: redirectScheme } : {}),
    },
    connection: parseConnection(fields),
  };
}

/** The token first, as nydusd has it; it ends some day. */
function parseCredentials(fields: Fields): Credential[] {
  const credentials: Credential[] = [];
  const token = fields.text('registry_token')?.trim();
  if (token) credentials.push({ kind: 'bearer', token });
  const auth = fields.text('auth')?.trim();
  if (auth) {
    const decoded = Buffer.from(auth, 'base64').toString('utf8');
    const colon = decoded.indexOf(':');
    if (colon <= 0) throw fields.wrong('auth', 'is not `username:password` in base64');
    credentials.push({ kind: 'basic', username: decoded.slice(0, colon), password: decoded.slice(colon + 1) });
  }
  return credentials;
}

function parseMirror(fields: Fields): RegistryBackend['mirrors'][number] {
  const url = parseUrl(fields, 'host', fields.needed('host'));
  const headers: Record<string, string> = {};
  const given = fields.object('headers');
  for (const name of given?.names() ?? []) {
    const value = given?.text(name);
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name)) throw fields.wrong('headers', 'has a name that is no header’s');
    if (value !== undefined) headers[name.toLowerCase()] = value;
  }
  fields.idle(MIRROR_REASONS);
  return { url, headers };
}

function parseObjectStorage(fields: Fields, kind: 's3' | 'oss'): ObjectBackend {
  const endpoint = kind === 's3' ? (fields.text('endpoint') ?? S3_ENDPOINT) : fields.needed('endpoint');
  const name = fields.needed('bucket_name');
  if (!BUCKET.test(name)) throw fields.wrong('bucket_name', 'is not the name of a bucket');
  const prefix = fields.text('object_prefix') ?? '';
  if (prefix.split('/').some((part) => part === '.' || part === '..'))
    throw fields.wrong('object_prefix', 'has a part `.` or `..`');
  const region = kind === 's3' ? fields.text('region') : undefined;
  if (region !== undefined && !/^[A-Za-z0-9-]+$/.test(region)) throw fields.wrong('region', 'is not a region');
  const id = fields.text('access_key_id');
  const secret = fields.text('access_key_secret');
  const token = fields.text('session_token');
  if (id === undefined && secret !== undefined) throw fields.wrong('access_key_id', 'is missing');
  if (id !== undefined && secret === undefined) throw fields.wrong('access_key_secret', 'is missing');
  if (id !== undefined && /[^\x21-\x7e]/.test(id)) throw fields.wrong('access_key_id', 'is not an access key');
  return {
    kind: 'bucket',
    bucket: {
      kind,
      scheme: parseScheme(fields, 'scheme') ?? 'https',
      endpoint: parseHost(fields, 'endpoint', endpoint),
      name,
      prefix,
      ...(region ? { region } : {}),
      ...(id !== undefined && secret !== undefined ? { keys: { id, secret, ...(token ? { token } : {}) } } : {}),
    },
    connection: parseConnection(fields),
  };
}

function parseLocal(fields: Fields): LocalBackend {
  const absolute = (name: string, path: string) => {
    if (!isAbsolute(path)) throw fields.wrong(name, 'is not an absolute path');
    return path;
  };
  const file = fields.text('blob_file');
  const directory = fields.text('dir');
  if (file === undefined && directory === undefined) throw fields.wrong('dir', 'is missing');
  const others = fields.texts('alt_dirs').map((path) => absolute('alt_dirs', path));
  return {
    kind: 'localfs',
    ...(file === undefined ? {} : { file: absolute('blob_file', file) }),
    directories: [...(directory === undefined ? [] : [absolute('dir', directory)]), ...others],
  };
}

function parseHttp(fields: Fields): HttpBackend {
  const address = fields.needed('addr');
  const path = fields.text('path') ?? '';
  if (/[?#\s]/.test(path)) throw fields.wrong('path', 'is not the path of an address');
  const connection = parseConnection(fields);
  if (isAbsolute(address)) return { kind: 'http-proxy', address: { socketPath: address }, path, connection };
  return { kind: 'http-proxy', address: { url: parseUrl(fields, 'addr', address) }, path, connection };
}

function parseConnection(fields: Fields): Connection {
  const milliseconds = (name: string) => {
    const seconds = fields.integer(name, LONGEST);
    // 0 means none to nydusd; a read has its deadline here, and its own limits count.
    return seconds === undefined || seconds === 0 ? undefined : seconds * 1000;
  };
  const connectTimeout = milliseconds('connect_timeout');
  const answerTimeout = milliseconds('timeout');
  const caFiles = fields.texts('ca_cert_files');
  if (caFiles.some((path) => !isAbsolute(path))) throw fields.wrong('ca_cert_files', 'has a path that is not absolute');
  const proxy = fields.object('proxy');
  const settings = proxy && parseProxy(proxy);
  return {
    ...(connectTimeout === undefined ? {} : { connectTimeout }),
    ...(answerTimeout === undefined ? {} : { answerTimeout }),
    skipVerify: fields.flag('skip_verify') ?? false,
    caFiles,
    ...(settings ? { proxy: settings } : {}),
  };
}

function parseProxy(fields: Fields): ProxySettings | undefined {
  const text = fields.text('url');
  const url =
    text === undefined ? undefined : parseUrl(fields, 'url', /:\/\//.test(text) ? text : `http://${text}`).href;
  const fallback = fields.flag('fallback') ?? true;
  const plain = fields.flag('use_http') ?? false;
  fields.idle(PROXY_REASONS);
  return url === undefined ? undefined : { url, fallback, plain };
}

function parseScheme(fields: Fields, name: string): 'http' | 'https' | undefined {
  const text = fields.text(name);
  if (text === undefined || text === 'http' || text === 'https') return text;
  throw fields.wrong(name, 'is not `http` or `https`');
}

function parseHost(fields: Fields, name: string, text: string): string {
  const isAddress = !text.startsWith('[') || isIP(text.slice(1, text.indexOf(']'))) === 6;
  if (!HOST.test(text) || !isAddress || !URL.canParse(`https://${text}/`))
    throw fields.wrong(name, 'is not `host` or `host:port`', 'Leave out `https://` and paths.');
  return text.toLowerCase();
}

function parseUrl(fields: Fields, name: string, text: string): URL {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url && (url.protocol === 'http:' || url.protocol === 'https:') && !url.search && !url.hash) return url;
  throw fields.wrong(name, 'is not an http or https address');
}
