/** Configurations of nydusd, JSON and TOML. */
import { parseNydusdConfig } from '../../../src/sources/nydusd/config.ts';
import { ensure, type Target } from '../target.ts';
import { JSON_WORDS, quoted, TOML_WORDS } from '../words.ts';

const registry = {
  host: 'registry.example:5000',
  repo: 'team/app',
  auth: Buffer.from('me:secret').toString('base64'),
  registry_token: 't',
  scheme: 'https',
  mirrors: [{ host: 'http://m.example', headers: { 'X-A': 'b' }, ping_url: 'x' }],
  proxy: { url: 'http://p.example', fallback: true },
  timeout: 5,
  ca_cert_files: ['/ca'],
  blob_redirected_host: 'b.example',
};
const s3 = {
  bucket_name: 'bucket',
  endpoint: 's3.example',
  region: 'eu',
  access_key_id: 'i',
  access_key_secret: 's',
  object_prefix: 'p/',
};

export const target: Target = {
  name: 'nydusd-config',
  text: true,
  seeds: () =>
    [
      JSON.stringify({
        device: {
          backend: { type: 'registry', config: registry },
          cache: { type: 'blobcache', config: { work_dir: '/x' } },
        },
        mode: 'direct',
        fs_prefetch: { enable: true, threads_count: 4 },
        amplify_io: 65536,
        iostats_files: true,
      }),
      JSON.stringify({
        version: 2,
        backend: { type: 's3', s3 },
        rafs: { mode: 'direct', batch_size: 4096, prefetch: { enable: true, prefetch_all: false } },
      }),
      JSON.stringify({ device: { backend: { type: 'localfs', config: { dir: '/blobs', alt_dirs: ['/other'] } } } }),
      JSON.stringify({ device: { backend: { type: 'http-proxy', config: { addr: '/run/x.sock', path: '/p' } } } }),
      'version = 2\n[backend]\ntype = "oss"\n[backend.oss]\nendpoint = "oss.example"\nbucket_name = "bucket"\n[cache]\ntype = "blobcache"\n',
    ].map((text) => Buffer.from(text)),
  errors: ['config', 'unsupported'],
  limit: 32 << 10,
  words: [
    ...JSON_WORDS,
    ...TOML_WORDS,
    ...quoted(
      'device',
      'version',
      'backend',
      'type',
      'config',
      'rafs',
      'cache',
      'registry',
      's3',
      'oss',
      'localfs',
      'http-proxy',
      'localdisk',
      'host',
      'repo',
      'mirrors',
      'headers',
      'proxy',
      'url',
      'dir',
      'addr',
      'timeout',
      'amplify_io',
      'toString',
    ),
  ],
  run(input) {
    const config = parseNydusdConfig(Buffer.from(input).toString('utf8'), '/etc/nydusd.json');
    for (const { key, why } of config.idle)
      ensure(typeof key === 'string' && typeof why === 'string', 'a reason that is no text');
    ensure(Number.isSafeInteger(config.amplify ?? 0), 'an odd amplification');
    return `${config.backend.kind} ${config.prefetch}`;
  },
};
