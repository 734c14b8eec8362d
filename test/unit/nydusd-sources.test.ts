import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import { openRepository } from '../../src/sources/open.ts';
import { makeBlobs, nydusdReference, writeConfig } from '../nydusd.ts';
import { startRegistry } from '../registry/registry.ts';
import { sourceSuite } from '../source-suite.ts';
import { type StorageOptions, startStorage } from '../storage/storage.ts';

const root = mkdtempSync(join(tmpdir(), 'nymph-nydusd-'));
after(() => rmSync(root, { recursive: true, force: true }));
let made = 0;

/** Every promise of a source, for a backend. @param place starts what has the blobs; gives type and settings */
function suite(
  name: string,
  place: (blobs: string) => Promise<{ type: string; config: object; close?: () => Promise<void> }>,
): void {
  sourceSuite(`nydusd’s ${name}`, async () => {
    const directory = join(root, String(made++));
    mkdirSync(directory);
    const { blobs, bootstrap, large, small } = await makeBlobs(directory);
    const { type, config, close } = await place(blobs);
    const file = writeConfig(join(directory, 'nydusd.json'), type, config);
    const repository = openRepository(nydusdReference(file, bootstrap), { configDirs: [] });
    const { descriptor } = await repository.resolve(new AbortController().signal);
    return {
      repository,
      large,
      small,
      manifest: { digest: descriptor.digest },
      close: async () => {
        await repository.close();
        await close?.();
      },
    };
  });
}

const keys = { id: 'an-id', secret: 'a/secret+' };

function storage(options: Omit<StorageOptions, 'directory'>, config: (host: string) => object) {
  return async (directory: string) => {
    const server = await startStorage({ directory, ...options });
    return { type: options.kind ?? 'http-proxy', config: config(server.host), close: server.close };
  };
}

const bucket = { bucket_name: 'images', access_key_id: keys.id, access_key_secret: keys.secret, scheme: 'http' };

suite(
  's3',
  storage({ kind: 's3', bucket: 'images', region: 'eu-test-1', prefix: 'nydus/a b+ü/', keys }, (endpoint) => ({
    ...bucket,
    endpoint,
    region: 'eu-test-1',
    object_prefix: 'nydus/a b+ü/',
  })),
);
suite(
  's3 that everybody may read',
  storage({ kind: 's3', bucket: 'images' }, (endpoint) => ({ bucket_name: 'images', scheme: 'http', endpoint })),
);
suite(
  'oss',
  storage({ kind: 'oss', bucket: 'images', prefix: 'nydus/', keys: { ...keys, token: 'temporary' } }, (endpoint) => ({
    ...bucket,
    endpoint,
    object_prefix: 'nydus/',
    session_token: 'temporary',
  })),
);
suite(
  'http-proxy',
  storage({ prefix: 'a/blobs/' }, (host) => ({ addr: `http://${host}`, path: '/a/blobs' })),
);
suite('http-proxy on a socket', async (directory) => {
  const server = await startStorage({ directory, prefix: 'blobs/', socket: join(directory, '..', 's') });
  return { type: 'http-proxy', config: { addr: server.url, path: 'blobs/' }, close: server.close };
});
suite('localfs', async (blobs) => ({ type: 'localfs', config: { dir: '/nowhere', alt_dirs: ['/tmp', blobs] } }));
suite('registry', async (blobs) => {
  const layout = join(blobs, '..', 'layout');
  mkdirSync(join(layout, 'blobs'), { recursive: true });
  symlinkSync(blobs, join(layout, 'blobs', 'sha256'));
  const auth = { kind: 'token', username: 'u', password: 'p:w' } as const;
  const registry = await startRegistry({ layouts: { 'team/app': layout }, faults: { auth, redirect: {} } });
  const config = { host: registry.host, repo: 'team/app', auth: Buffer.from('u:p:w').toString('base64') };
  return { type: 'registry', config, close: registry.close };
});
