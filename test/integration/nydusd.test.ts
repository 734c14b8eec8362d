/** `nymph mount --config nydusd.json --bootstrap FILE DIR` by the real program, for every backend. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import { bootstrapLayer, type Layer } from '../../src/formats/rafs/manifest.ts';
import { sha256Digest } from '../../src/sources/digest.ts';
import { cannotMount, NYMPH, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { APP_LAYOUT, APP_MANIFEST, unpackKinds } from '../fixtures.ts';
import { type CompareOptions, checkTree, describe as tell } from '../manifest.ts';
import { writeConfig } from '../nydusd.ts';
import { startRegistry } from '../registry/registry.ts';
import { type StorageOptions, startStorage } from '../storage/storage.ts';
import { cannotServeS3, startVersity } from '../storage/versitygw.ts';

const KEYS = { id: 'key-id', secret: 'hidden-Secret/9' };
const LOGIN = 'reader:hidden-Password';
const NO_PREFETCH = { fs_prefetch: { enable: false } };

interface Sample {
  bootstrap: string;
  /** Folder of blobs by their ids. */
  blobs: string;
  manifest: string;
  exceptions?: CompareOptions['exceptions'];
}

/** A backend that has the blobs of a folder: its type and settings, for each test anew. */
type Place = (t: { after(clean: () => Promise<void> | void): void }, blobs: string) => Promise<[string, object]>;

describe('with a configuration of nydusd', { skip: cannotMount() }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-door-'));
  const samples: Record<string, Sample> = {};
  before(() => {
    const { bootstrap, blobs, manifest } = unpackKinds(join(directory, 'kinds'));
    samples.kinds = { bootstrap, blobs, manifest };
    samples.app = {
      bootstrap: join(directory, 'app.boot'),
      blobs: join(APP_LAYOUT, 'blobs', 'sha256'),
      manifest: APP_MANIFEST,
      exceptions: ['/srv', '/srv/pages'].map((path) => ({ path, field: 'mtime' })),
    };
    const layer = readFileSync(join(samples.app.blobs, bootstrapLayer(appManifest().layers).digest.slice(7)));
    writeFileSync(samples.app.bootstrap, unpackBootstrapLayer(layer, 1 << 28).bootstrap);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const server =
    (options: Omit<StorageOptions, 'directory'>, type: string, config: (host: string) => object): Place =>
    async (t, blobs) => {
      const storage = await startStorage({ directory: blobs, ...options });
      t.after(storage.close);
      return [type, config(storage.host)];
    };
  const bucket = (endpoint: string) => ({
    endpoint,
    bucket_name: 'images',
    scheme: 'http',
    access_key_id: KEYS.id,
    access_key_secret: KEYS.secret,
  });

  const places: Record<string, Place> = {
    s3: server({ kind: 's3', bucket: 'images', prefix: 'nydus/', keys: KEYS }, 's3', (host) => ({
      ...bucket(host),
      region: 'us-east-1',
      object_prefix: 'nydus/',
    })),
    oss: server({ kind: 'oss', bucket: 'images', keys: KEYS }, 'oss', bucket),
    localfs: async (_, blobs) => ['localfs', { dir: blobs }],
    'http-proxy': server({ prefix: 'blobs/' }, 'http-proxy', (host) => ({ addr: `http://${host}`, path: '/blobs' })),
    'http-proxy on a socket': async (t, blobs) => {
      const storage = await startStorage({ directory: blobs, socket: join(mkdtempSync(join(directory, 's-')), 's') });
      t.after(storage.close);
      return ['http-proxy', { addr: storage.url }];
    },
    registry: async (t, blobs) => {
      const layout = mkdtempSync(join(directory, 'layout-'));
      mkdirSync(join(layout, 'blobs'));
      symlinkSync(blobs, join(layout, 'blobs', 'sha256'));
      const [username, password] = LOGIN.split(':');
      const auth = { kind: 'token', username, password } as const;
      const registry = await startRegistry({ layouts: { 'team/app': layout }, faults: { auth, redirect: {} } });
      t.after(registry.close);
      return ['registry', { host: registry.host, repo: 'team/app', auth: Buffer.from(LOGIN).toString('base64') }];
    },
  };

  /** The command line as nydusd's users write it: nothing of ours but where this test's daemon is. */
  const nymph = (daemon: TestDaemon, ...args: string[]) =>
    run(NYMPH, ['--root', daemon.root, '--address', daemon.address, ...args]);

  async function mounted(daemon: TestDaemon, config: string, bootstrap: string): Promise<string> {
    const place = daemon.place('m');
    const { status, err, out } = await nymph(daemon, 'mount', '--config', config, '--bootstrap', bootstrap, place);
    assert.equal(status, 0, err);
    assert.match(out.toString(), /^mounted nydusd:.* on /);
    assert.match(err, /keys of .* without effect:[\s\S]*device\.cache\.type: the cache is nymph/);
    return place;
  }

  async function isRight(place: string, { manifest, exceptions }: Sample, how: CompareOptions['how']): Promise<void> {
    const differences = await checkTree(place, manifest, { how, exceptions });
    assert.deepEqual(differences.slice(0, 5).map(tell), []);
  }

  /** Nothing secret in what others can see. */
  async function tellsNothing(daemon: TestDaemon): Promise<void> {
    const files = ['catalogue.db', 'catalogue.db-wal', 'daemon.log'].map((name) => join(daemon.root, name));
    for (const image of readdirSync(join(daemon.root, 'images')))
      files.push(join(daemon.root, 'images', image, 'image.json'));
    for (const file of files) {
      const text = await readFileIfThere(file);
      for (const secret of [KEYS.secret, LOGIN.split(':')[1], Buffer.from(LOGIN).toString('base64')])
        assert.ok(!text.includes(secret), `a secret is in ${file}`);
    }
    assert.equal(daemon.logged('hidden-').length, 0);
    const shown = [
      await nymph(daemon, 'ls', '--json'),
      await nymph(daemon, 'status', '--json'),
      await run('ps', ['axww']),
    ];
    for (const { out, err } of shown) assert.ok(!(out.toString() + err).includes('hidden-'));
  }

  for (const [name, place] of Object.entries(places))
    test(`${name}: the tree is right`, async (t) => {
      const daemon = await testDaemon(t);
      // Batches, whose tables lie in the blob, need no more of a backend; one proves it.
      for (const sample of name === 's3' ? (['kinds', 'app'] as const) : (['app'] as const)) {
        const { bootstrap, blobs } = samples[sample];
        const [type, settings] = await place(t, blobs);
        const config = writeConfig(join(daemon.directory, 'nydusd.json'), type, settings, NO_PREFETCH);
        const directory = await mounted(daemon, config, bootstrap);
        await isRight(directory, samples[sample], 'order');
        assert.equal((await nymph(daemon, 'umount', directory)).status, 0);
      }
      await tellsNothing(daemon);
    });

  test('a real S3 server, which checks signatures', { skip: cannotServeS3() }, async (t) => {
    const daemon = await testDaemon(t);
    const { bootstrap, blobs } = samples.app;
    const store = join(directory, 'versity');
    cpSync(blobs, join(store, 'images', 'nydus', 'a b'), { recursive: true });
    const endpoint = await startVersity(t, store, KEYS, 'eu-test-1');
    const settings = { ...bucket(endpoint), region: 'eu-test-1', object_prefix: 'nydus/a b/' };
    const config = writeConfig(join(daemon.directory, 'nydusd.json'), 's3', settings, NO_PREFETCH);
    const place = await mounted(daemon, config, bootstrap);
    await isRight(place, samples.app, 'random');
    const { fetch } = await daemon.client.status();
    assert.deepEqual(Object.keys(fetch.bytes), [endpoint]);
    assert.equal(fetch.retries, 0);
    assert.equal((await nymph(daemon, 'umount', place)).status, 0);
    assert.equal((await nymph(daemon, 'prune', '--all')).status, 0);

    writeConfig(config, 's3', { ...settings, access_key_secret: 'another' }, NO_PREFETCH);
    await mounted(daemon, config, bootstrap);
    assert.match((await run('cat', [join(place, 'bin/app')])).err, /Input\/output error/);
    assert.notEqual(daemon.logged('SignatureDoesNotMatch').length, 0);
    // The region is what the server says it is.
    writeConfig(config, 's3', { ...settings, region: 'us-east-1' }, NO_PREFETCH);
    await untilReadable(place);
    await isRight(place, samples.app, 'order');
  });

  test('an image whose blobs are in a bucket and not in its registry', async (t) => {
    const daemon = await testDaemon(t);
    const layout = mkdtempSync(join(directory, 'hollow-'));
    const manifest = hollowImage(layout);
    const registry = await startRegistry({ layouts: { app: layout } });
    t.after(registry.close);
    const [type, settings] = await places.s3(t, samples.app.blobs);
    const config = writeConfig(join(daemon.directory, 'nydusd.json'), type, settings, {
      fs_prefetch: { enable: true },
    });
    const place = daemon.place('m');
    const reference = `${registry.host}/app:nydus`;
    const { status, err, json } = await daemon.nymph('mount', '--nydusd-config', config, reference, place);
    assert.equal(status, 0, err);
    assert.deepEqual(pick(json, 'digest', 'reference'), {
      digest: manifest,
      reference: `nydusd:${config}:${reference}`,
    });
    await until(30_000, 'the image is not fetched, as the configuration wants it', async () => {
      const { size, ready } = await daemon.client.image(manifest);
      return ready === size ? true : undefined;
    });
    await isRight(place, samples.app, 'parallel');
    const pulled = await daemon.nymph('pull', `nydusd:${config}:${reference}`);
    assert.equal(pulled.status, 0, pulled.err);
  });

  test('readers do not notice that the daemon is killed', async (t) => {
    const daemon = await testDaemon(t);
    const options = { kind: 's3', bucket: 'images', keys: KEYS, faults: { bandwidth: 3_000_000 } } as const;
    const [type, settings] = await server(options, 's3', bucket)(t, samples.kinds.blobs);
    const config = writeConfig(join(daemon.directory, 'nydusd.json'), type, settings, NO_PREFETCH);
    const place = await mounted(daemon, config, samples.kinds.bootstrap);
    const compared = isRight(place, samples.kinds, 'parallel');
    for (let kill = 0; kill < 2; kill++) {
      await sleep(250);
      const { pid } = await daemon.client.health();
      await daemon.kill('daemon');
      await daemon.another(pid);
    }
    await compared;
    assert.notEqual(daemon.logged('serving a mount on').length, 0);
    await tellsNothing(daemon);
  });

  test('a daemon that starts again reads the file again; without it, it has what it has', async (t) => {
    const daemon = await testDaemon(t);
    const [type, settings] = await places.s3(t, samples.app.blobs);
    const config = join(daemon.directory, 'nydusd.json');
    writeConfig(config, type, settings, NO_PREFETCH);
    const place = await mounted(daemon, config, samples.app.bootstrap);
    const first = await run('cat', [join(place, 'bin/app')]);
    assert.equal(first.status, 0);
    await daemon.stop();
    rmSync(config);
    await daemon.start();
    await until(10_000, 'it is not mounted again', async () =>
      daemon.logged('mounted again').length ? true : undefined,
    );
    const again = await run('cat', [join(place, 'bin/app')]);
    assert.ok(again.status === 0 && again.out.equals(first.out), again.err);
    assert.notEqual((await run('sh', ['-c', `cat ${place}/srv/pages/* >/dev/null`])).status, 0);
    assert.notEqual(daemon.logged('the nydusd configuration').length, 0);
    writeConfig(config, type, settings, NO_PREFETCH);
    await untilReadable(place);
    await isRight(place, samples.app, 'order');
  });

  test('a storage that lies: right bytes once it has them, an error until then', async (t) => {
    const daemon = await testDaemon(t);
    const storage = await startStorage({ kind: 's3', bucket: 'images', keys: KEYS, directory: samples.app.blobs });
    t.after(storage.close);
    const config = writeConfig(join(daemon.directory, 'nydusd.json'), 's3', bucket(storage.host), NO_PREFETCH);
    const place = await mounted(daemon, config, samples.app.bootstrap);
    storage.faults.blob = { kind: 'bit-flip' };
    assert.match((await run('cat', [join(place, 'bin/app')])).err, /Input\/output error/);
    for (const kind of ['bit-flip', 'other-range', 'no-content-range', 'gzip', 'hang-up'] as const) {
      storage.faults.blob = { kind, times: 2 };
      await untilReadable(place);
    }
    delete storage.faults.blob;
    await untilReadable(place);
    await isRight(place, samples.app, 'order');
  });

  test('what is wrong is said before anything is made', async (t) => {
    const daemon = await testDaemon(t, { start: false });
    const place = join(daemon.directory, 'not', 'made');
    const { bootstrap } = samples.kinds;
    const config = join(daemon.directory, 'nydusd.json');
    const says = async (expected: RegExp, status: number, ...args: string[]) => {
      const outcome = await nymph(daemon, 'mount', ...args);
      assert.match(outcome.err, expected);
      assert.equal(outcome.status, status);
      assert.doesNotMatch(outcome.err, /hidden-/);
    };
    await says(/does not say where its blobs are\n {2}Name the configuration/, 2, '--bootstrap', bootstrap, place);
    await says(/nydusd\.json does not exist/, 3, '--config', config, '--bootstrap', bootstrap, place);
    writeFileSync(config, 'root = "/var/lib/nymph"');
    await says(/no configuration of nydusd/, 2, '--config', config, '--bootstrap', bootstrap, place);
    writeConfig(config, 's3', { bucket_name: 'images', access_key_secret: 'hidden-x' });
    await says(
      /device\.backend\.config\.access_key_id is missing/,
      2,
      '--config',
      config,
      '--bootstrap',
      bootstrap,
      place,
    );
    writeConfig(config, 'localfs', { dir: '/nowhere' });
    await says(/instead of a reference/, 2, '--config', config, '--bootstrap', bootstrap, 'app', place);
    await says(/does not go with rafs:/, 2, '--nydusd-config', config, 'rafs:/a', place);
    await says(
      /^nymph: bootstrap .*nothing does not exist/m,
      3,
      '--config',
      config,
      '--bootstrap',
      `${config}.nothing`,
      place,
    );
    assert.throws(() => readdirSync(join(daemon.directory, 'not')), { code: 'ENOENT' });
    assert.equal((await nymph(daemon, 'daemon', '--stop')).status, 0);
  });
});

/** After a read has failed, its error is given again for a moment; the file is found right soon. */
async function untilReadable(place: string): Promise<void> {
  await until(30_000, `${place} cannot be read`, async () => {
    const { status, err } = await run('sh', [
      '-c',
      `cat ${place}/srv/pages/* >/dev/null && cat ${place}/bin/app >/dev/null`,
    ]);
    if (status !== 0) throw new Error(err);
    return true;
  });
}

function appManifest(): { layers: Layer[]; [key: string]: unknown } {
  const blobs = join(APP_LAYOUT, 'blobs', 'sha256');
  const { manifests } = JSON.parse(readFileSync(join(APP_LAYOUT, 'index.json'), 'utf8'));
  return JSON.parse(readFileSync(join(blobs, manifests[0].digest.slice(7)), 'utf8'));
}

/** The image of `oci/app` as nydusify makes it with a bucket: the bootstrap is its only layer. @returns its digest */
function hollowImage(layout: string): string {
  const manifest = appManifest();
  const layer = bootstrapLayer(manifest.layers);
  const bytes = Buffer.from(JSON.stringify({ ...manifest, layers: [layer] }));
  const digest = sha256Digest(bytes);
  mkdirSync(join(layout, 'blobs', 'sha256'), { recursive: true });
  writeFileSync(join(layout, 'blobs', 'sha256', digest.slice(7)), bytes);
  const from = join(APP_LAYOUT, 'blobs', 'sha256', layer.digest.slice(7));
  cpSync(from, join(layout, 'blobs', 'sha256', layer.digest.slice(7)));
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const annotations = { 'org.opencontainers.image.ref.name': 'nydus' };
  const manifests = [{ mediaType, digest, size: bytes.length, annotations }];
  writeFileSync(join(layout, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests }));
  return digest;
}

function pick(from: object, ...names: string[]): object {
  return Object.fromEntries(Object.entries(from).filter(([name]) => names.includes(name)));
}

async function readFileIfThere(file: string): Promise<string> {
  try {
    return readFileSync(file, 'latin1');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '';
    throw error;
  }
}
