/** Models whose layers are tars, mounted lazily. */
import assert from 'node:assert/strict';
import { mkdirSync, readdirSync, utimesSync } from 'node:fs';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { cannotMount, run, testDaemon, until } from '../daemon.ts';
import { noDockerRegistry, startDockerRegistry } from '../docker-registry.ts';
import { type Descriptor, type ModelFile, put, putManifest, tarLayer } from '../model.ts';
import { buildByModctl, checkReads, mount, noModctl, scratch, sums, writeTruth } from '../model-mount.ts';
import { madeBytes } from '../registry/layout.ts';
import { startRegistry } from '../registry/registry.ts';

const SMALL: ModelFile[] = [
  { path: 'config.json', bytes: Buffer.from('{"architectures":["Tiny"]}\n') },
  { path: 'tokenizer/vocab.txt', bytes: madeBytes(50_000, 2) },
  { path: 'tokenizer/empty', bytes: Buffer.alloc(0) },
  { path: 'run.sh', bytes: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
];
const LARGE: ModelFile[] = [
  { path: 'model-00001-of-00002.safetensors', bytes: madeBytes(9_000_001, 3) },
  { path: 'model-00002-of-00002.safetensors', bytes: madeBytes(20_000_003, 4) },
];
const FILES = [...SMALL, ...LARGE];
const MODEL = 'application/vnd.cncf.model.';
const KIT = 'application/vnd.kitops.modelkit.';
const ORAS_FOLDER = { 'org.opencontainers.image.title': 'm', 'io.deis.oras.content.unpack': 'true' };

interface Made {
  layout: string;
  truth: string;
}

/** A model with these layers, beside its files in a folder. */
function made(t: TestContext, configType: string, layers: (layout: string) => Descriptor[], files = FILES): Made {
  const directory = scratch(t);
  const [layout, truth] = [join(directory, 'layout'), join(directory, 'truth')];
  mkdirSync(truth);
  writeTruth(truth, files);
  const config = put(layout, configType, Buffer.from('{}'));
  putManifest(layout, 'v1', { config, layers: layers(layout) });
  return { layout, truth };
}

/** All files in two tars of ModelPack that are packed so. */
const twoTars = (t: TestContext, packing: string, more: ModelFile[] = []): Made =>
  made(
    t,
    `${MODEL}config.v1+json`,
    (layout) => [
      tarLayer(layout, `${MODEL}weight.config.v1.tar${packing}`, [...SMALL, ...more]),
      tarLayer(layout, `${MODEL}weight.v1.tar${packing}`, LARGE),
    ],
    [...FILES, ...more],
  );

const KINDS: Record<string, (t: TestContext) => Made> = {
  'ModelPack, a tar for each file': (t) =>
    made(t, `${MODEL}config.v1+json`, (layout) =>
      FILES.map((file) => tarLayer(layout, `${MODEL}weight.v1.tar`, [file], { 'org.cncf.model.filepath': file.path })),
    ),
  'CNAI, two tars': (t) =>
    made(t, 'application/vnd.cnai.model.config.v1+json', (layout) => [
      tarLayer(layout, 'application/vnd.cnai.model.weight.config.v1.tar', SMALL),
      tarLayer(layout, 'application/vnd.cnai.model.weight.v1.tar', LARGE),
    ]),
  'ModelPack, tars packed with gzip': (t) => twoTars(t, '+gzip'),
  'CNAI, a tar packed with zstd for each file': (t) =>
    made(t, 'application/vnd.cnai.model.config.v1+json', (layout) =>
      FILES.map((file) => tarLayer(layout, 'application/vnd.cnai.model.weight.v1.tar+zstd', [file])),
    ),
  'a folder that ORAS packed': (t) => {
    const files = FILES.map((file) => ({ ...file, path: `m/${file.path}` }));
    return made(
      t,
      'application/vnd.oci.empty.v1+json',
      (layout) => [tarLayer(layout, 'application/vnd.oci.image.layer.v1.tar+gzip', files, ORAS_FOLDER)],
      files,
    );
  },
  'a ModelKit': (t) =>
    made(t, `${KIT}config.v1+json`, (layout) => [
      tarLayer(layout, `${KIT}code.v1.tar`, SMALL),
      tarLayer(layout, `${KIT}model.v1.tar`, LARGE),
    ]),
  'a folder of an OCI artifact': (t) =>
    made(
      t,
      'application/vnd.oci.empty.v1+json',
      (layout) => [
        tarLayer(
          layout,
          'application/vnd.oci.image.layer.v1.tar',
          FILES.map((file) => ({ ...file, path: `m/${file.path}` })),
          ORAS_FOLDER,
        ),
      ],
      FILES.map((file) => ({ ...file, path: `m/${file.path}` })),
    ),
};

describe('models in tars', { skip: cannotMount() }, () => {
  test('every file is there with its digest, in order, at random by 16 readers, by mmap, of whatever kind the tars are', async (t) => {
    const daemon = await testDaemon(t);
    for (const [what, make] of Object.entries(KINDS)) {
      const { layout, truth } = make(t);
      const place = daemon.place(what.replaceAll(/[^a-z]/gi, ''));
      await mount(daemon, `oci:${layout}:v1`, place, '--prefetch', 'none');
      await checkReads(t, daemon, truth, place, join(layout, 'manifest'));
    }
  });

  test('of a tar that is not packed only headers are fetched, and then what is read; the whole is checked', async (t) => {
    const { layout, truth } = made(t, `${MODEL}config.v1+json`, (at) => [
      tarLayer(at, `${MODEL}weight.config.v1.tar`, SMALL),
      tarLayer(at, `${MODEL}weight.v1.tar`, LARGE),
    ]);
    const registry = await startRegistry({ layouts: { 'models/tiny': layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const listed = await daemon.nymph('ls', '--files', reference);
    assert.equal(listed.status, 0, listed.err);
    const files = (listed.json as { files: { path: string; mode: number; mtime: number }[] }).files;
    assert.deepEqual(
      files.find(({ path }) => path === 'run.sh'),
      { path: 'run.sh', type: 'file', mode: 0o555, size: 10, mtime: 1_700_000_000 },
    );
    const before = registry.stats.blobBytes;
    const place = daemon.place('m');
    await mount(daemon, reference, place, '--prefetch', 'none');
    assert.ok(registry.stats.blobBytes - before < 200_000, `${registry.stats.blobBytes - before} bytes for a mount`);
    const path = join(place, LARGE[1].path);
    await run('dd', [`if=${path}`, 'of=/dev/null', 'bs=8', 'count=1']);
    assert.ok(registry.stats.blobBytes - before < 4 << 20, 'much for a header');
    await sums(place);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
    const pulled = await daemon.nymph('pull', reference);
    assert.equal(pulled.status, 0, pulled.err);
    await until(10_000, 'the tar is not checked', async () => {
      const { blobs } = await daemon.client.image(reference);
      return blobs.every(({ standing }) => standing === undefined || standing === 'right') || undefined;
    });
    const { bad, chunks, verified } = (await daemon.nymph('verify', reference)).json as Record<string, unknown>;
    assert.deepEqual([bad, chunks, verified], [[], 2, 2]);
  });

  test('a packed tar is read once; what it unpacks to is verified, kept, and found again by another revision', async (t) => {
    const { layout, truth } = twoTars(t, '+zstd');
    const registry = await startRegistry({ layouts: { 'models/tiny': layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const place = daemon.place('m');
    await mount(daemon, reference, place, '--prefetch', 'none');
    const stored = LARGE.reduce((sum, { bytes }) => sum + bytes.length, 0);
    const once = registry.stats.blobBytes;
    assert.ok(once < stored * 1.01 + 200_000, `${once} bytes for a mount of ${stored}`);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
    const { blobs } = await daemon.client.image(reference);
    assert.deepEqual(
      blobs.flatMap(({ guarantee, ready }) => [guarantee, ready]),
      blobs.flatMap(({ size }) => ['chunk', size]),
    );
    const other = { ...SMALL[0], bytes: Buffer.from('{"new":1}') };
    const layers = [
      tarLayer(layout, `${MODEL}weight.config.v1.tar+zstd`, [other]),
      tarLayer(layout, `${MODEL}weight.v1.tar+zstd`, LARGE),
    ];
    putManifest(layout, 'v2', { config: put(layout, `${MODEL}config.v1+json`, Buffer.from('{}')), layers });
    const next = daemon.place('next');
    await mount(daemon, `${registry.host}/models/tiny:v2`, next, '--prefetch', 'none');
    assert.equal((await run('cmp', [join(next, LARGE[1].path), join(truth, LARGE[1].path)])).status, 0);
    await daemon.supervised();
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
    assert.ok(registry.stats.blobBytes - once < 100_000, `${registry.stats.blobBytes - once} bytes more`);
    assert.deepEqual(readdirSync(join(daemon.root, 'tmp')), []);
  });

  test('what the disk has lost of a packed tar is unpacked again', async (t) => {
    const { layout, truth } = twoTars(t, '+gzip');
    const daemon = await testDaemon(t);
    const reference = `oci:${layout}:v1`;
    const place = daemon.place('m');
    await mount(daemon, reference, place, '--prefetch', 'none');
    const { blobs } = await daemon.client.image(reference);
    const { id } = blobs.find(({ path }) => path === LARGE[0].path)!;
    for (const at of [20 << 20, 3 << 20, 8 << 20])
      await run('dd', [
        'if=/dev/zero',
        `of=${join(daemon.root, 'blobs', id, 'data')}`,
        'bs=4096',
        `seek=${at / 4096}`,
        'count=1',
        'conv=notrunc',
      ]);
    const { repaired, bad } = (await daemon.nymph('verify', reference)).json as Record<string, unknown>;
    assert.deepEqual([repaired, bad], [3, []]);
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
  });

  test('a packed tar that comes wrong, or leads out, is mounted nowhere, and leaves nothing', async (t) => {
    const { layout } = twoTars(t, '+gzip');
    const layers = [tarLayer(layout, `${MODEL}code.v1.tar+gzip`, [{ path: 'a/../../x', bytes: Buffer.from('x') }])];
    putManifest(layout, 'evil', { config: put(layout, `${MODEL}config.v1+json`, Buffer.from('{}')), layers });
    const registry = await startRegistry({ layouts: { 'models/tiny': layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    const evil = await daemon.nymph('mount', `${registry.host}/models/tiny:evil`, daemon.place('evil'));
    assert.equal(evil.status, 5, evil.err);
    assert.match(JSON.stringify(evil.json), /leads out of the tree/);
    registry.faults.blob = { kind: 'bit-flip' };
    const wrong = await daemon.nymph('mount', `${registry.host}/models/tiny:v1`, daemon.place('m'));
    assert.equal(wrong.status, 5, wrong.err);
    for (const directory of ['tmp', 'blobs', 'images']) assert.deepEqual(readdirSync(join(daemon.root, directory)), []);
    delete registry.faults.blob;
    await mount(daemon, `${registry.host}/models/tiny:v1`, daemon.place('m'));
  });

  test('with --strict a tar is read whole before it is mounted, also where it was mounted without', async (t) => {
    const { layout, truth } = twoTars(t, '');
    const registry = await startRegistry({ layouts: { 'models/tiny': layout } });
    t.after(() => registry.close());
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const [loose, strict] = [daemon.place('loose'), daemon.place('strict')];
    await mount(daemon, reference, loose, '--prefetch', 'none');
    assert.ok(registry.stats.blobBytes < 200_000);
    await mount(daemon, reference, strict, '--prefetch', 'none', '--strict');
    const { blobs } = await daemon.client.image(reference);
    assert.ok(
      blobs.every(({ guarantee, size, ready }) => guarantee === 'chunk' && ready === (size > 1 << 20 ? size : ready)),
    );
    for (const place of [strict, loose])
      assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
  });

  for (const raw of [true, false])
    test(`what modctl builds with --raw=${raw} and pushes to docker-registry`, {
      skip: noModctl() || noDockerRegistry(),
    }, async (t) => {
      const directory = scratch(t);
      const truth = join(directory, 'model');
      writeTruth(
        truth,
        FILES.filter(({ bytes }) => bytes.length > 0),
      );
      // In tars times are whole seconds.
      if (!raw) for (const { path } of LARGE) utimesSync(join(truth, path), 1_700_000_000, 1_700_000_000);
      if (!raw) utimesSync(join(truth, 'config.json'), 1_700_000_001, 1_700_000_001);
      const registry = await startDockerRegistry(t, directory);
      const reference = `${registry.host}/models/tiny:v1`;
      const lines = ['NAME tiny', 'FORMAT safetensors', 'CONFIG config.json', 'CONFIG tokenizer/vocab.txt'];
      await buildByModctl(directory, reference, [...lines, 'CODE run.sh', 'MODEL *.safetensors'], raw);
      const daemon = await testDaemon(t);
      const place = daemon.place('m');
      await mount(daemon, reference, place);
      assert.equal((await sums(place)).out.toString(), (await sums(truth)).out.toString());
      const times = async (where: string) => {
        const names = ['config.json', LARGE[0].path].map((name) => join(where, name));
        return (await run('stat', ['-c', '%s %y', ...names])).out.toString();
      };
      assert.equal(await times(place), await times(truth));
    });
});
