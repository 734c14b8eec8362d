/** Ordinary images of several layers, made by umoci, converted: the kernel shows what umoci unpacks. Registries are Debian's. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import { cannotMount, NYMPH, run, testDaemon } from '../daemon.ts';
import { noDockerRegistry, startDockerRegistry, USER } from '../docker-registry.ts';
import { flattenBlobs, mountFlat, unmountFlat } from '../flat.ts';
import { checkTree, describe as describeDifference, writeManifest } from '../manifest.ts';
import { makeKinds, makeManyFiles, textBytes } from '../tree.ts';

const noUmoci = spawnSync('umoci', ['--version']).error !== undefined && 'not installed: umoci';
const skip = cannotMount() || noDockerRegistry() || noUmoci;

interface Report {
  digest: string;
  reference: string;
  images: { digest: string; layers: { blob?: string; how?: string }[]; names: number }[];
}

/** Runs a program that must succeed. */
async function good(program: string, ...args: string[]): Promise<string> {
  const { status, out, err } = await run(program, args);
  assert.equal(status, 0, `${program} ${args.join(' ')}: ${err}`);
  return out.toString();
}

describe('converting ordinary images', { skip }, () => {
  const directory = mkdtempSync('/tmp/nymph-convert-');
  const layout = join(directory, 'source');
  const truth = join(directory, 'truth');
  const manifest = join(directory, 'truth.jsonl');
  const config = join(directory, 'config.toml');
  let stop = () => {};
  let host: string;

  const convert = async (...args: string[]): Promise<Report> =>
    JSON.parse(await good(NYMPH, '--config', config, 'convert', '--json', ...args));

  /** Adds a layer with the changes that are made to the tree. */
  async function layer(change: (root: string) => void): Promise<void> {
    const bundle = join(directory, 'bundle');
    await good('umoci', 'unpack', '--image', `${layout}:app`, bundle);
    change(join(bundle, 'rootfs'));
    await good('umoci', 'repack', '--image', `${layout}:app`, bundle);
    rmSync(bundle, { recursive: true, force: true });
  }

  before(async () => {
    await good('umoci', 'init', '--layout', layout);
    await good('umoci', 'new', '--image', `${layout}:app`);
    await layer((root) => {
      makeKinds(join(root), { special: false });
      mkdirSync(join(root, 'many'));
      makeManyFiles(join(root, 'many'), { count: 300 });
      mkdirSync(join(root, 'replaced/inside'), { recursive: true });
      writeFileSync(join(root, 'replaced/inside/old'), 'old');
      writeFileSync(join(root, 'kept-by-link'), 'one inode in two layers');
    });
    await layer((root) => {
      rmSync(join(root, 'many/d000'), { recursive: true });
      rmSync(join(root, 'hard/first'));
      rmSync(join(root, 'replaced'), { recursive: true });
      symlinkSync('many', join(root, 'replaced'));
      appendFileSync(join(root, 'one-byte'), 'more');
      rmSync(join(root, 'dup'), { recursive: true });
      mkdirSync(join(root, 'dup'));
      writeFileSync(join(root, 'dup/new'), textBytes(50_000, 3));
      renameSync(join(root, 'names'), join(root, 'renamed'));
    });
    await layer((root) => {
      linkSync(join(root, 'kept-by-link'), join(root, 'many/link'));
      rmSync(join(root, 'dup/new'));
      writeFileSync(join(root, 'hard/first'), 'another one');
    });
    await good('umoci', 'config', '--image', `${layout}:app`, '--config.entrypoint', '/bin/app', '--config.env', 'A=b');
    await good('umoci', 'unpack', '--image', `${layout}:app`, truth);
    const lines: string[] = [];
    writeManifest(join(truth, 'rootfs'), (line) => lines.push(line));
    writeFileSync(manifest, lines.join(''));

    const login = join(directory, 'login.json');
    ({ host } = await startDockerRegistry({ after: (clean) => (stop = clean) }, directory, login));
    writeFileSync(config, `[registry]\nplain_http = ["${host}"]\ncredentials = "${login}"\n`);
  });
  after(() => {
    stop();
    rmSync(directory, { recursive: true, force: true });
  });

  /** Copies the image to the registry. */
  async function push(name: string, ...flags: string[]): Promise<string> {
    const options = ['copy', '-q', '--dest-tls-verify=false', `--dest-creds=${USER}`, ...flags];
    await good('skopeo', ...options, `oci:${layout}:app`, `docker://${host}/${name}`);
    return `${host}/${name}`;
  }

  test('the kernel shows what umoci unpacks, and fsck.erofs agrees', async (t) => {
    const target = join(directory, 'nydus');
    const report = await convert(`oci:${layout}:app`, `oci:${target}:nydus`);
    assert.equal(report.images[0].layers.length, 3);
    const objects = join(target, 'blobs/sha256');
    const object = (digest: string): Buffer => readFileSync(join(objects, digest.slice('sha256:'.length)));
    const image = JSON.parse(object(report.digest).toString());
    const imageConfig = JSON.parse(object(image.config.digest).toString());
    assert.deepEqual(imageConfig.config.Entrypoint, ['/bin/app']);
    const layers = imageConfig.history.filter((entry: { empty_layer?: boolean }) => !entry.empty_layer);
    assert.equal(layers.length, image.layers.length);
    assert.equal(imageConfig.rootfs.diff_ids.length, image.layers.length);

    const bootstrap = join(directory, 'bootstrap');
    writeFileSync(bootstrap, unpackBootstrapLayer(object(image.layers.at(-1).digest), 1 << 26).bootstrap);
    const flat = join(directory, 'flat');
    const { image: tables } = flattenBlobs(bootstrap, objects, flat);
    const devices = tables.blobs.map(({ id }) => join(flat, id));
    const mounted = join(directory, 'mnt');
    await mountFlat(bootstrap, devices, mounted);
    try {
      for (const how of ['order', 'mmap'] as const)
        assert.deepEqual((await checkTree(mounted, manifest, { how })).map(describeDifference), [], how);
    } finally {
      await unmountFlat(mounted);
    }
    const fsck = spawnSync('fsck.erofs', [...devices.map((device) => `--device=${device}`), bootstrap]);
    if (fsck.error) t.diagnostic('fsck.erofs is not installed');
    else assert.equal(fsck.status, 0, String(fsck.stderr));
    assert.deepEqual(readdirSync(target).sort(), ['blobs', 'index.json', 'oci-layout'], 'nothing else is left');
  });

  test('gzip, zstd and Docker schema 2: the same blobs, which are not sent again', async () => {
    const gzip = await convert(await push('gzip:1'), `${host}/converted:gzip`);
    assert.ok(gzip.images[0].layers.every(({ how }) => how === 'sent'));
    const blobs = gzip.images[0].layers.map(({ blob }) => blob);
    const zstd = await push('zstd:1', '--dest-compress-format', 'zstd');
    const docker = await push('docker:1', '--format', 'v2s2');
    for (const source of [zstd, docker]) {
      const { images } = await convert(source, `${host}/converted:${source.split('/')[1].replace(':', '-')}`);
      assert.deepEqual(
        images[0].layers.map(({ blob }) => blob),
        blobs,
        source,
      );
      assert.ok(
        images[0].layers.every(({ how }) => how === 'present'),
        source,
      );
      assert.equal(images[0].names, gzip.images[0].names);
    }
  });

  test('one reference serves both: by an index, and by a referrer', async (t) => {
    const daemon = await testDaemon(t, { toml: readFileSync(config, 'utf8') });
    const source = await push('team/app:1');
    const ordinary = JSON.parse(
      await good('skopeo', 'inspect', '--raw', '--tls-verify=false', `--creds=${USER}`, `docker://${source}`),
    );
    const before = await daemon.nymph('run-check', source);
    assert.equal(before.status, 6, before.err);

    const report = await convert(source);
    assert.equal(report.reference, `${host}/team/app@${report.digest}`);
    const mounted = await daemon.nymph('mount', source, join(daemon.directory, 'referrer'));
    assert.equal(mounted.status, 0, mounted.err);
    const { digest, choice } = mounted.json as { digest: string; choice: { by: string } };
    assert.deepEqual([digest, choice.by], [report.digest, 'referrer']);
    const place = join(daemon.directory, 'referrer');
    assert.deepEqual((await checkTree(place, manifest, { how: 'random' })).map(describeDifference), []);

    const index = await convert('--index', source, `${host}/team/both:1`);
    const both = await daemon.nymph('mount', `${host}/team/both:1`, join(daemon.directory, 'index'));
    assert.equal(both.status, 0, both.err);
    assert.equal((both.json as { choice: { by: string } }).choice.by, 'index');
    assert.equal((both.json as { digest: string }).digest, index.images[0].digest);
    // A client that knows nothing of Nydus finds the ordinary image under the same name.
    const copy = join(directory, 'copy');
    const flags = ['copy', '-q', '--src-tls-verify=false', `--src-creds=${USER}`];
    await good('skopeo', ...flags, `docker://${host}/team/both:1`, `oci:${copy}:x`);
    const entry = JSON.parse(readFileSync(join(copy, 'index.json'), 'utf8')).manifests[0];
    const copied = JSON.parse(readFileSync(join(copy, 'blobs/sha256', entry.digest.slice(7)), 'utf8'));
    assert.deepEqual(copied.layers, ordinary.layers);
    for (const name of ['referrer', 'index'])
      assert.equal((await daemon.nymph('umount', join(daemon.directory, name))).status, 0);
  });
});
