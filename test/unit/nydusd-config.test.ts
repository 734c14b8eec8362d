import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { type NydusdConfig, parseNydusdConfig } from '../../src/sources/nydusd/config.ts';
import { formatReference, parseReference } from '../../src/sources/reference.ts';
import { PROJECT } from '../fixtures.ts';
import { known } from '../source-suite.ts';

const SECRET = 'hidden-Secret/9';

function v1(type: string, config: unknown, more: object = {}): NydusdConfig {
  return parseNydusdConfig(
    JSON.stringify({ device: { backend: { type, config } }, mode: 'direct', ...more }),
    'n.json',
  );
}

function refuses(act: () => unknown, message: RegExp, code = 'config'): void {
  assert.throws(act, (error) => {
    assert.doesNotMatch(String((error as Error).message), new RegExp(SECRET));
    return known({ code, message })(error);
  });
}

describe('version 1', () => {
  test('a registry with everything that can be said of it', () => {
    const { backend } = v1('registry', {
      scheme: 'http',
      host: 'Registry.Example:5000',
      repo: 'team/app',
      auth: Buffer.from('user:pass:word').toString('base64'),
      registry_token: ' token ',
      skip_verify: true,
      ca_cert_files: ['/etc/ca.pem'],
      timeout: 7,
      connect_timeout: 3,
      retry_limit: 2,
      blob_redirected_host: 'storage.example',
      blob_url_scheme: 'http',
      mirrors: [{ host: 'http://10.0.0.7:65001', headers: { 'X-Dragonfly-Registry': 'https://registry.example' } }],
      proxy: { url: 'p2p:65001', fallback: false, use_http: true, ping_url: 'http://p2p/ping' },
    });
    assert.deepEqual(backend, {
      kind: 'registry',
      host: 'registry.example:5000',
      repository: 'team/app',
      scheme: 'http',
      credentials: [
        { kind: 'bearer', token: 'token' },
        { kind: 'basic', username: 'user', password: 'pass:word' },
      ],
      mirrors: [
        { url: new URL('http://10.0.0.7:65001'), headers: { 'x-dragonfly-registry': 'https://registry.example' } },
      ],
      redirected: { host: 'storage.example', scheme: 'http' },
      connection: {
        connectTimeout: 3000,
        answerTimeout: 7000,
        skipVerify: true,
        caFiles: ['/etc/ca.pem'],
        proxy: { url: 'http://p2p:65001/', fallback: false, plain: true },
      },
    });
  });

  test('object storage, with the defaults of nydusd', () => {
    const { backend } = v1('s3', {
      bucket_name: 'images',
      region: 'eu-1',
      access_key_id: 'id',
      access_key_secret: SECRET,
    });
    assert.deepEqual(backend, {
      kind: 'bucket',
      bucket: {
        kind: 's3',
        scheme: 'https',
        endpoint: 's3.amazonaws.com',
        name: 'images',
        prefix: '',
        region: 'eu-1',
        keys: { id: 'id', secret: SECRET },
      },
      connection: { skipVerify: false, caFiles: [] },
    });
  });

  test('files, and servers of files', () => {
    assert.deepEqual(v1('localfs', { dir: '/a', alt_dirs: ['/b'] }).backend, {
      kind: 'localfs',
      directories: ['/a', '/b'],
    });
    assert.deepEqual(v1('localfs', { blob_file: '/blob', dir: '' }).backend, {
      kind: 'localfs',
      file: '/blob',
      directories: [],
    });
    const socket = v1('http-proxy', { addr: '/run/s', path: 'p' }).backend;
    assert.deepEqual(socket.kind === 'http-proxy' && socket.address, { socketPath: '/run/s' });
  });

  test('prefetching', () => {
    const prefetch = (fs_prefetch: unknown) => v1('localfs', { dir: '/a' }, { fs_prefetch }).prefetch;
    assert.equal(prefetch(undefined), undefined);
    assert.equal(prefetch({ enable: false }), 'none');
    assert.equal(prefetch({ enable: true }), 'all');
    assert.equal(prefetch({ enable: true, prefetch_all: false }), 'image');
    assert.equal(v1('localfs', { dir: '/a' }, { amplify_io: 0 }).amplify, 0);
  });

  test('every key without effect is named, with the reason; keys that count are not', () => {
    const { idle } = v1(
      's3',
      { bucket_name: 'images', region: 'r', retry_limit: 1, timeout: 1, typing_error: SECRET },
      {
        digest_validate: false,
        enable_xattr: true,
        fs_prefetch: { enable: true, threads_count: 10, bandwidth_rate: 1 },
        amplify_io: 4096,
      },
    );
    assert.deepEqual(idle.map(({ key }) => key).sort(), [
      'device.backend.config.retry_limit',
      'device.backend.config.typing_error',
      'digest_validate',
      'enable_xattr',
      'fs_prefetch.bandwidth_rate',
      'fs_prefetch.threads_count',
      'mode',
    ]);
    assert.equal(idle.find(({ key }) => key.endsWith('typing_error'))?.why, 'nymph does not know this key');
    assert.equal(idle.find(({ key }) => key === 'digest_validate')?.why, 'chunks are always verified');
    assert.doesNotMatch(JSON.stringify(idle), new RegExp(SECRET));
  });
});

describe('version 2', () => {
  const toml = `
version = 2
id = "x"
[backend]
type = "oss"
[backend.localfs]
dir = "/a"
[backend.oss]
endpoint = "oss.example"
bucket_name = "images"
access_key_id = "id"
access_key_secret = "${SECRET}"
[backend.oss.proxy]
url = ""
[cache]
type = "filecache"
[cache.filecache]
work_dir = "."
[rafs]
batch_size = 8192
validate = true
[rafs.prefetch]
enable = true
threads = 8
`;

  test('as TOML', () => {
    const config = parseNydusdConfig(toml, 'n.toml');
    assert.equal(config.backend.kind, 'bucket');
    assert.equal(config.backend.kind === 'bucket' && config.backend.connection.proxy, undefined);
    assert.equal(config.amplify, 8192);
    assert.equal(config.prefetch, 'image');
    assert.deepEqual(config.idle.map(({ key }) => key).sort(), [
      'backend.localfs',
      'cache.filecache',
      'cache.type',
      'id',
      'rafs.prefetch.threads',
      'rafs.validate',
    ]);
  });

  test('as JSON', () => {
    const text = JSON.stringify({ version: 2, backend: { type: 'http-proxy', 'http-proxy': { addr: 'http://h:1' } } });
    assert.equal(parseNydusdConfig(text, 'n.json').backend.kind, 'http-proxy');
  });
});

describe('what is wrong names the key, never its value', () => {
  const keys = { bucket_name: 'images', access_key_id: 'id', access_key_secret: SECRET, region: 'r' };

  test('in version 1', () => {
    refuses(
      () => v1('s3', { ...keys, access_key_secret: [SECRET] }),
      /^n\.json: device\.backend\.config\.access_key_secret is not a text$/,
    );
    refuses(() => v1('s3', { ...keys, access_key_id: undefined }), /access_key_id is missing/);
    refuses(() => v1('s3', { ...keys, access_key_secret: '' }), /access_key_secret is missing/);
    refuses(() => v1('s3', { ...keys, bucket_name: 'a/b' }), /bucket_name is not the name of a bucket/);
    refuses(() => v1('s3', { ...keys, endpoint: 'https://s3.example' }), /endpoint is not `host` or `host:port`/);
    refuses(() => v1('s3', { ...keys, object_prefix: 'a/../b' }), /object_prefix has a part/);
    refuses(() => v1('s3', { ...keys, timeout: -1 }), /timeout is not a whole number/);
    refuses(() => v1('s3', { ...keys, endpoint: 's3.5' }), /endpoint is not `host` or `host:port`/);
    refuses(() => v1('oss', keys), /endpoint is missing/);
    refuses(() => v1('registry', { repo: 'a' }), /config\.host is missing/);
    refuses(() => v1('registry', { host: 'h', repo: '../a' }), /repo is not the name/);
    refuses(
      () => v1('registry', { host: 'h', repo: 'a', auth: Buffer.from(SECRET).toString('base64') }),
      /auth is not/,
    );
    refuses(() => v1('registry', { host: 'h', repo: 'a', mirrors: [{ host: 'm:1' }] }), /mirrors\[0\]\.host is not/);
    refuses(() => v1('localfs', { dir: 'blobs' }), /dir is not an absolute path/);
    refuses(() => v1('localfs', {}), /dir is missing/);
    refuses(() => v1('http-proxy', { addr: `ftp://${SECRET}` }), /addr is not an http or https address/);
    refuses(
      () => v1('localdisk', { device_path: '/dev/x' }),
      /type is "localdisk", which nymph does not have/,
      'unsupported',
    );
    refuses(() => v1('toString', {}), /type is "toString"/, 'unsupported');
    refuses(
      () => v1('localfs', { dir: '/a' }, { fs_prefetch: { enable: 'yes' } }),
      /fs_prefetch\.enable is not true or false/,
    );
  });

  test('in the document', () => {
    refuses(() => parseNydusdConfig(`{\n "a": ${SECRET}}`, 'n.json'), /^n\.json: no valid JSON$/);
    refuses(() => parseNydusdConfig(`{\n "a": "${SECRET}" 1}`, 'n.json'), /^n\.json:2: no valid JSON$/);
    refuses(() => parseNydusdConfig(`a = ${SECRET}`, 'n.toml'), /^n\.toml:1:\d+: neither JSON nor valid TOML$/);
    refuses(() => parseNydusdConfig('[]', 'n.json'), /neither/);
    refuses(() => parseNydusdConfig('{"version":3}', 'n.json'), /version is not 2/);
    refuses(() => parseNydusdConfig('{}', 'n.json'), /neither `device` nor `version`/);
    refuses(() => parseNydusdConfig('root = "/var/lib/nymph"', 'config.toml'), /neither `device` nor `version`/);
    refuses(() => parseNydusdConfig('{"device":{}}', 'n.json'), /device\.backend is missing/);
    refuses(() => parseNydusdConfig('{"device":{"backend":{"type":"s3"}}}', 'n.json'), /backend\.config is missing/);
    refuses(() => parseNydusdConfig(`{"a":"${'x'.repeat(1 << 20)}"}`, 'n.json'), /more than 1048576 bytes/);
  });
});

/** All keys that nydusd 2.4 knows, by section. */
const HTTP = ['skip_verify', 'ca_cert_files', 'timeout', 'connect_timeout', 'retry_limit', 'proxy'];
const OBJECT = ['scheme', 'endpoint', 'bucket_name', 'object_prefix', 'access_key_id', 'access_key_secret', ...HTTP];
const BACKENDS: Record<string, string[]> = {
  localfs: ['blob_file', 'dir', 'alt_dirs', 'readahead', 'readahead_sec'],
  oss: OBJECT,
  s3: ['region', ...OBJECT],
  'http-proxy': ['addr', 'path', ...HTTP],
  registry: [
    ...['scheme', 'host', 'repo', 'auth', 'registry_token', 'blob_url_scheme', 'blob_redirected_host', 'mirrors'],
    ...HTTP,
  ],
};
const PROXY = ['url', 'ping_url', 'fallback', 'check_interval', 'use_http', 'check_pause_elapsed'].concat(
  'dragonfly_scheduler_endpoint',
);
const MIRROR = ['host', 'headers', 'ping_url', 'health_check_interval', 'failure_limit', 'auth_through'];
const V1 = ['mode', 'digest_validate', 'iostats_files', 'enable_xattr', 'access_pattern', 'latest_read_files'].concat(
  'amplify_io',
  'fs_prefetch',
);
const V1_PREFETCH = ['enable', 'threads_count', 'merging_size', 'bandwidth_rate', 'prefetch_all', 'stream_prefetch'];
const V1_CACHE = ['type', 'compressed', 'config', 'validate'];
const V2 = ['id', 'external_backends', 'overlay'];
const V2_RAFS = ['mode', 'batch_size', 'validate', 'enable_xattr', 'iostats_files', 'access_pattern'].concat(
  'latest_read_files',
  'prefetch',
);
const V2_PREFETCH = ['enable', 'threads', 'batch_size', 'bandwidth_limit', 'prefetch_all', 'stream_prefetch'];
const V2_CACHE = ['type', 'compressed', 'validate', 'prefetch', 'filecache', 'fscache'];

/** Settings with these keys, each of which is right. */
function filled(keys: readonly string[]): Record<string, unknown> {
  const values: Record<string, unknown> = {
    dir: '/a',
    blob_file: '/b',
    alt_dirs: ['/c'],
    scheme: 'http',
    blob_url_scheme: 'http',
    host: 'host.example',
    endpoint: 'host.example',
    auth: Buffer.from('a:b').toString('base64'),
    addr: 'http://host.example',
    url: 'http://host.example',
    skip_verify: true,
    ca_cert_files: ['/ca'],
    timeout: 1,
    connect_timeout: 1,
    fallback: true,
    use_http: true,
    enable: true,
    prefetch_all: true,
    batch_size: 1,
    amplify_io: 1,
    headers: { a: 'b' },
    type: 'localfs',
    ...(keys === MIRROR ? { host: 'http://host.example' } : {}),
  };
  if (keys.includes('proxy')) values.proxy = filled(PROXY);
  if (keys.includes('mirrors')) values.mirrors = [filled(MIRROR)];
  if (keys.includes('fs_prefetch')) values.fs_prefetch = filled(V1_PREFETCH);
  if (keys === V2_RAFS) values.prefetch = filled(V2_PREFETCH);
  return Object.fromEntries(keys.map((key) => [key, values[key] ?? 'value']));
}

test('every key of nydusd is known in both versions, and stands in docs/nydusd.md', () => {
  const page = readFileSync(join(PROJECT, 'docs', 'nydusd.md'), 'utf8');
  const all = [BACKENDS, PROXY, MIRROR, V1, V1_PREFETCH, V1_CACHE, V2, V2_RAFS, V2_PREFETCH, V2_CACHE].flatMap(
    (keys) => (Array.isArray(keys) ? keys : Object.values(keys).flat()),
  );
  for (const key of all) assert.match(page, new RegExp(`[\`. ]${key}[\`.]`), `docs/nydusd.md lacks ${key}`);
  for (const [type, keys] of Object.entries(BACKENDS)) {
    const config = filled(keys);
    const old = v1(type, config, {
      ...filled(V1),
      device: { id: 'x', external_backends: [], backend: { type, config }, cache: filled(V1_CACHE) },
    });
    const cache = filled(V2_CACHE);
    const now = { version: 2, ...filled(V2), backend: { type, [type]: config }, cache, rafs: filled(V2_RAFS) };
    for (const { idle } of [old, parseNydusdConfig(JSON.stringify(now), 'n.json')])
      assert.deepEqual(
        idle.filter(({ why }) => why.includes('does not know')),
        [],
        type,
      );
  }
});

test('references with a configuration are read as they are written', () => {
  for (const text of [
    'nydusd:/etc/n.json:/images/boot:strap',
    'nydusd:/etc/odd%3A%25name.json:/b',
    'nydusd:/etc/n.json:registry.example:5000/app:tag',
    'nydusd:/etc/n.json:oci:/layout:tag',
  ])
    assert.equal(formatReference(parseReference(text, '/')), text);
  assert.deepEqual(parseReference('nydusd:a%3ab:./c', '/d'), {
    kind: 'nydusd',
    config: '/d/a:b',
    image: { kind: 'bootstrap', path: '/d/c' },
  });
  for (const wrong of [
    'nydusd:',
    'nydusd:/a',
    'nydusd:/a:',
    'nydusd::/b',
    'nydusd:/a:rafs:/b',
    'nydusd:/a:nydusd:/b:/c',
  ])
    assert.throws(() => parseReference(wrong), known({ code: 'usage' }), wrong);
});
