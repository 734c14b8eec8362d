/** Models whose layers are tars, mounted lazily. */
import assert from 'node:assert/strict';
import { mkdirSync, utimesSync } from 'node:fs';
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
  for (const [what, make] of Object.entries(KINDS))
    test(`every file is there with its digest: ${what}`, async (t) => {
      const { layout, truth } = make(t);
      const daemon = await testDaemon(t);
      const place = daemon.place('m');
      await mount(daemon, `oci:${layout}:v1`, place, '--prefetch', 'none');
      await checkReads(t, daemon, truth, place, join(layout, 'manifest'));
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
