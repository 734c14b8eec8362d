/** ModelPack artifacts, mounted lazily. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { crc32c } from '../../src/codec/crc32c.ts';
import { cannotMount, NYMPH, run, type TestDaemon, testDaemon, until } from '../daemon.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { type ModelFile, makeModel } from '../model.ts';
import { checkReads, mount, scratch, sums, writeTruth } from '../model-mount.ts';
import { startReaders } from '../readers.ts';
import { madeBytes } from '../registry/layout.ts';
import { startRegistry, type TestRegistry } from '../registry/registry.ts';

const LARGE = 'model-00001-of-00002.safetensors';
const FILES: ModelFile[] = [
  { path: 'config.json', kind: 'weight.config', bytes: Buffer.from('{"architectures":["Tiny"]}\n') },
  { path: 'tokenizer/vocab.txt', kind: 'weight.config', bytes: madeBytes(50_000, 2) },
  { path: 'empty', kind: 'doc', bytes: Buffer.alloc(0) },
  { path: 'run.sh', kind: 'code', bytes: Buffer.from('#!/bin/sh\n'), mode: 0o755 },
  { path: LARGE, bytes: madeBytes(9_000_001, 3) },
  { path: 'model-00002-of-00002.safetensors', bytes: madeBytes(20_000_003, 4) },
];

async function served(
  t: TestContext,
  files: readonly ModelFile[] = FILES,
): Promise<{ registry: TestRegistry; layout: string }> {
  const layout = join(scratch(t), 'layout');
  makeModel(layout, 'v1', files);
  const registry = await startRegistry({ layouts: { 'models/tiny': layout, 'copies/tiny': layout } });
  t.after(() => registry.close());
  return { registry, layout };
}

/** Reads a file to the end and tells how that ended. */
const read = (path: string) => run('dd', [`if=${path}`, 'of=/dev/null', 'bs=1M']);

async function standing(daemon: TestDaemon, reference: string, path: string): Promise<string | undefined> {
  const image = await daemon.client.image(reference);
  return image.blobs.find((blob) => blob.path === path)?.standing;
}

const isRight = (daemon: TestDaemon, reference: string, path: string) =>
  until(
    10_000,
    `${path} is not checked`,
    async () => (await standing(daemon, reference, path)) === 'right' || undefined,
  );

describe('models', { skip: cannotMount() }, () => {
  test('every file is there with its digest, in order, at random, by mmap, by 16 readers; under the old names too', async (t) => {
    const directory = scratch(t);
    const truth = join(directory, 'truth');
    writeTruth(truth, FILES);
    const layout = join(directory, 'layout');
    makeModel(layout, 'cncf', FILES);
    makeModel(layout, 'cnai', FILES, { spec: 'cnai', artifactType: null });
    for (const tag of ['cncf', 'cnai']) {
      const daemon = await testDaemon(t);
      const place = daemon.place('m');
      await mount(daemon, `oci:${layout}:${tag}`, place, '--prefetch', 'none');
      await checkReads(t, daemon, truth, place, join(directory, 'manifest'));
      const mode = await run('stat', ['-c', '%a %u %Y', join(place, 'run.sh'), place]);
      assert.equal(mode.out.toString(), `555 0 ${Date.UTC(2025, 10, 10, 7, 8, 7) / 1000}\n555 0 0\n`);
      await daemon.stop();
    }
  });

  test('nothing large is fetched before it is read, and nothing twice', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    const reference = `${registry.host}/models/tiny:v1`;
    await mount(daemon, reference, place, '--prefetch', 'none');
    const bytes = () => registry.stats.blobBytes;
    const mounted = bytes();
    assert.ok(mounted < 20_000, `${mounted} bytes for a mount`);
    await run('cat', [join(place, 'config.json')]);
    assert.ok(bytes() - mounted < 10_000);
    await run('dd', [`if=${join(place, LARGE)}`, 'of=/dev/null', 'bs=8', 'count=1']);
    assert.ok(bytes() - mounted < 3 << 20, `${bytes() - mounted} bytes for a header`);
    await sums(place);
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    await sums(place);
    const all = FILES.reduce((sum, file) => sum + file.bytes.length, 0);
    // A reader may overtake what is fetched ahead of it, once.
    assert.ok(bytes() - mounted <= all + (2 << 20), `${bytes() - mounted} bytes for ${all}`);
    for (const path of [LARGE, 'model-00002-of-00002.safetensors']) await isRight(daemon, reference, path);
  });

  test('inspect, ls --files, pull, verify and status say what is there and what is sure', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const inspected = (await daemon.nymph('inspect', reference)).json as {
      format: string;
      model: { family: string };
      integrity: object;
      files: { path: string; guarantee?: string }[];
    };
    assert.equal(inspected.format, 'modelpack');
    assert.equal(inspected.model.family, 'qwen2');
    const shown = (await run(NYMPH, ['inspect', reference])).out.toString();
    for (const line of [
      /^family: +qwen2$/m,
      /^weights: +safetensors$/m,
      /^parameters: +0.5b$/m,
      /^precision: +bfloat16$/m,
    ])
      assert.match(shown, line);
    assert.match(shown, new RegExp(`complete +${LARGE}`));
    assert.deepEqual(
      { ...inspected.integrity, statement: undefined },
      { chunk: 3, file: 2, none: 0, statement: undefined },
    );
    assert.equal(inspected.files.find(({ path }) => path === LARGE)?.guarantee, 'file');
    const listed = (await daemon.nymph('ls', '--files', reference)).json as { files: { path: string; size: number }[] };
    assert.deepEqual(
      listed.files.filter(({ size }) => size > 0).map(({ path, size }) => [path, size]),
      FILES.filter(({ bytes }) => bytes.length > 0)
        .map(({ path, bytes }) => [path, bytes.length])
        .sort(),
    );
    const pulled = await daemon.nymph('pull', reference);
    assert.equal(pulled.status, 0, pulled.err);
    await isRight(daemon, reference, LARGE);
    const verified = (await daemon.nymph('verify', reference)).json as {
      chunks: number;
      verified: number;
      bad: string[];
    };
    assert.deepEqual([verified.verified, verified.chunks, verified.bad], [5, 5, []]);
  });

  test('a subset is mounted or pulled alone, beside all of it, also after a restart', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const wrong = await daemon.nymph('mount', '--subset', 'wieghts', reference, daemon.place('wrong'));
    assert.equal(wrong.status, 2);
    assert.match(wrong.out.toString() + wrong.err, /Is `weights` meant/);
    const pulled = (await daemon.nymph('pull', '--subset', 'config,tokenizer', reference)).json as { fetched: number };
    assert.ok(pulled.fetched < 100_000, `${pulled.fetched} bytes`);
    const [some, all] = [daemon.place('some'), daemon.place('all')];
    await mount(daemon, reference, some, '--subset', 'config,tokenizer,run.*', '--prefetch', 'none');
    await mount(daemon, reference, all, '--prefetch', 'none');
    const names = async (place: string) =>
      (await run('sh', ['-c', 'cd "$0" && find . -type f | sort', place])).out.toString().split('\n').filter(Boolean);
    assert.deepEqual(await names(some), ['./config.json', './run.sh', './tokenizer/vocab.txt']);
    assert.equal((await names(all)).length, FILES.length);
    const { mounts } = (await daemon.nymph('ls')).json as { mounts: { directory: string; subset?: string[] }[] };
    assert.deepEqual(mounts.map(({ subset }) => subset).sort(), [['config', 'run.*', 'tokenizer'], undefined]);
    await daemon.stop();
    await daemon.start();
    assert.deepEqual(await names(some), ['./config.json', './run.sh', './tokenizer/vocab.txt']);
    assert.equal((await run('cat', [join(some, 'run.sh')])).out.toString(), '#!/bin/sh\n');
    const image = await daemon.nymph('mount', '--subset', 'config', `oci:${APP_LAYOUT}`, daemon.place('image'));
    assert.equal(image.status, 6, image.err);
  });

  test('a cached file that the disk has damaged is found by verify and fetched again', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    await daemon.nymph('pull', reference);
    await isRight(daemon, reference, LARGE);
    const { blobs } = await daemon.client.image(reference);
    const { id } = blobs.find(({ path }) => path === LARGE)!;
    writeFileSync(join(daemon.root, 'blobs', id, 'data'), 'damage', { flag: 'r+' });
    const result = (await daemon.nymph('verify', reference)).json as { repaired: number; bad: string[] };
    assert.deepEqual([result.repaired, result.bad], [1, []]);
    assert.equal(readFileSync(join(daemon.root, 'blobs', id, 'data')).compare(FILES[4].bytes), 0);
    assert.equal(await standing(daemon, reference, LARGE), 'right');
  });

  test('a file that comes wrong is removed, and reads of it fail from then on, mapped pages too; a new mount tries again', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    const reference = `${registry.host}/models/tiny:v1`;
    await mount(daemon, reference, place, '--prefetch', 'none');
    registry.faults.blob = { kind: 'bit-flip' };
    const path = join(place, LARGE);
    await read(path);
    await until(
      10_000,
      'nobody notices',
      async () => (await standing(daemon, reference, LARGE)) === 'wrong' || undefined,
    );
    await until(10_000, 'it can be read', async () => {
      const { status, err } = await read(path);
      return (status !== 0 && /Input\/output error/.test(err)) || undefined;
    });
    assert.equal((await daemon.told('A FILE IS NOT WHAT ITS DIGEST SAYS')).length, 1);
    const { blobs } = await daemon.client.image(reference);
    const { id } = blobs.find((blob) => blob.path === LARGE)!;
    assert.equal((await run('du', ['-k', join(daemon.root, 'blobs', id, 'data')])).out.toString().split('\t')[0], '0');
    // What is small is verified before it is served.
    assert.notEqual((await read(join(place, 'tokenizer/vocab.txt'))).status, 0);
    delete registry.faults.blob;
    assert.notEqual((await read(path)).status, 0, 'the source is right again, but this mount is not');
    await until(10_000, 'small files stay unreadable', async () => {
      return (await read(join(place, 'tokenizer/vocab.txt'))).status === 0 || undefined;
    });
    await daemon.nymph('umount', place);
    await mount(daemon, reference, place);
    assert.equal((await sums(place)).out.toString().includes('FAILED'), false);
    assert.equal((await read(path)).status, 0);
    await isRight(daemon, reference, LARGE);
  });

  test('a piece that comes without its checksum is fetched again while the file is still coming', async (t) => {
    const bytes = madeBytes(20_000_003, 8);
    const crcs = [0, 1, 2, 3, 4].map((i) => `0x${crc32c(bytes.subarray(i << 22, (i + 1) << 22)).toString(16)}`);
    const annotations = {
      'org.cnai.model.filepath': 'big.code',
      'org.cnai.nydus.crcs': JSON.stringify({ files: [{ file_path: 'big.code', chunk_crcs: crcs.join() }] }),
    };
    const { registry } = await served(t, [{ path: 'big.code', kind: 'code', bytes, annotations }]);
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    const place = daemon.place('m');
    await mount(daemon, reference, place, '--prefetch', 'none');
    registry.faults.blob = { kind: 'bit-flip', times: 1 };
    await read(join(place, 'big.code'));
    await isRight(daemon, reference, 'big.code');
    assert.equal((await daemon.told('does not have its checksum')).length, 1);
    assert.equal((await sums(place)).out.toString().slice(0, 64), sha256(bytes));
  });

  test('with --strict no byte of a file is read before all of it was checked', async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    const reference = `${registry.host}/models/tiny:v1`;
    registry.faults.blob = { kind: 'bit-flip' };
    await mount(daemon, reference, place, '--prefetch', 'none', '--strict');
    const head = (path: string) => run('dd', [`if=${join(place, path)}`, 'of=/dev/null', 'bs=8', 'count=1']);
    assert.match((await head(LARGE)).err, /Input\/output error/);
    delete registry.faults.blob;
    const other = 'model-00002-of-00002.safetensors';
    assert.equal((await head(other)).status, 0);
    assert.equal(await standing(daemon, reference, other), 'right');
    const { ready, size } = (await daemon.client.image(reference)).blobs.find(({ path }) => path === other)!;
    assert.equal(ready, size);
  });

  test('two revisions share what has not changed, also while it is not complete', async (t) => {
    const { registry, layout } = await served(t);
    makeModel(layout, 'v2', [...FILES.slice(1), { ...FILES[0], bytes: Buffer.from('{"new":1}') }]);
    const daemon = await testDaemon(t);
    const [one, two] = [daemon.place('one'), daemon.place('two')];
    await mount(daemon, `${registry.host}/models/tiny:v1`, one, '--prefetch', 'none');
    await read(join(one, LARGE));
    const before = registry.stats.blobBytes;
    await mount(daemon, `${registry.host}/models/tiny:v2`, two, '--prefetch', 'none');
    assert.equal((await run('cmp', [join(one, LARGE), join(two, LARGE)])).status, 0);
    assert.ok(registry.stats.blobBytes - before < 20_000);
    // The same files of another place: shared because they were checked.
    await isRight(daemon, `${registry.host}/models/tiny:v1`, LARGE);
    const copy = daemon.place('copy');
    await mount(daemon, `${registry.host}/copies/tiny:v1`, copy, '--prefetch', 'none');
    await read(join(copy, LARGE));
    assert.ok(registry.stats.blobBytes - before < 40_000);
  });

  test('readers live through kill -9 of the daemon in the midst of a load', async (t) => {
    const directory = scratch(t);
    const truth = join(directory, 'truth');
    const files = [FILES[0], { path: LARGE, bytes: madeBytes(60_000_001, 9) }];
    writeTruth(truth, files);
    const { registry } = await served(t, files);
    const daemon = await testDaemon(t);
    await daemon.supervised();
    const place = daemon.place('m');
    const reference = `${registry.host}/models/tiny:v1`;
    await mount(daemon, reference, place, '--prefetch', 'none');
    const readers = startReaders(t, truth, place, { readers: 8, maxRead: 1 << 20 });
    const whole = sums(place);
    for (let i = 0; i < 3; i++) {
      const { pid } = await daemon.client.health();
      await daemon.kill('daemon');
      await daemon.another(pid);
    }
    assert.equal((await whole).out.toString(), (await sums(truth)).out.toString());
    const seen = await readers.stop();
    assert.deepEqual([seen.wrong, seen.errors], [[], {}]);
    await isRight(daemon, reference, LARGE);
  });

  test('a complete and checked file is read by the kernel itself, also after the daemon was killed', {
    skip: noPassthrough(),
  }, async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    await daemon.supervised();
    const place = daemon.place('m');
    const reference = `${registry.host}/models/tiny:v1`;
    await mount(daemon, reference, place, '--prefetch', 'none');
    const path = join(place, LARGE);
    const hits = async () => {
      const { hits: here, faults } = (await daemon.client.status()).fuse;
      return here + faults;
    };
    // Opened before it is complete, it is read through us until it is closed.
    const early = startHolder(t, path);
    await early.sum();
    await isRight(daemon, reference, LARGE);
    const opened = startHolder(t, path);
    assert.equal(await opened.sum(), sha256(FILES[4].bytes));
    await early.close();
    await opened.close();
    await sleep(200);
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    const before = await hits();
    const direct = startHolder(t, path);
    assert.equal(await direct.sum(), sha256(FILES[4].bytes));
    assert.equal((await run('cmp', [path, path])).status, 0);
    assert.equal(await hits(), before, 'reads reached the daemon');
    const { pid } = await daemon.client.health();
    await daemon.kill('daemon');
    await daemon.another(pid);
    // Who has it open reads on, and who opens it beside that does, too.
    await run('sh', ['-c', 'echo 3 > /proc/sys/vm/drop_caches']);
    assert.equal(await direct.sum(), sha256(FILES[4].bytes));
    assert.equal((await sums(place)).out.toString().includes(sha256(FILES[4].bytes)), true);
    await direct.close();
    assert.equal((await read(path)).status, 0);
    await until(5_000, 'it stays open', async () => {
      const catalogue = await run('sqlite3', [join(daemon.root, 'catalogue.db'), 'SELECT count(*) FROM opens']);
      return catalogue.status !== 0 || catalogue.out.toString().trim() === '0' || undefined;
    });
  });

  test('a complete file is read by the kernel itself also where an image was read as a FUSE tree before', {
    skip: noPassthrough(),
  }, async (t) => {
    const { registry } = await served(t);
    const daemon = await testDaemon(t);
    const image = daemon.place('image');
    await mount(daemon, `oci:${APP_LAYOUT}:nydus`, image, '--via', 'fuse');
    assert.equal((await run('tar', ['-C', image, '-cf', '/dev/null', '.'])).status, 0);
    const reference = `${registry.host}/models/tiny:v1`;
    const place = daemon.place('m');
    await mount(daemon, reference, place, '--prefetch', 'all');
    await isRight(daemon, reference, LARGE);
    const hits = async () => {
      const { hits: here, faults } = (await daemon.client.status()).fuse;
      return here + faults;
    };
    const before = await hits();
    assert.equal((await read(join(place, LARGE))).status, 0);
    assert.equal(await hits(), before, 'reads reached the daemon');
    // Who has read the image has its files open no more.
    assert.equal((await daemon.nymph('umount', image)).status, 0);
  });

  test('small files and headers are there before anybody asks; all of it, in the order of the index, where that is wanted', async (t) => {
    const header = Buffer.alloc(3 << 20, ' ');
    header.writeBigUInt64LE(BigInt(header.length - 8));
    header.write('{}', 8);
    const shards = ['b.safetensors', 'a.safetensors'].map((path, i) => ({
      path,
      bytes: Buffer.concat([header, madeBytes(9 << 20, i)]),
    }));
    const index = {
      weight_map: { 'layer.0': 'b.safetensors', 'layer.1': 'a.safetensors', 'layer.2': 'b.safetensors' },
    };
    const zip = {
      path: 'pytorch_model.bin',
      bytes: Buffer.concat([Buffer.from('PK\u0003\u0004'), madeBytes(9 << 20, 7)]),
    };
    const files = [
      FILES[0],
      { path: 'model.safetensors.index.json', bytes: Buffer.from(JSON.stringify(index)) },
      ...shards,
      zip,
    ];
    const { registry } = await served(t, files);
    const daemon = await testDaemon(t);
    const reference = `${registry.host}/models/tiny:v1`;
    await mount(daemon, reference, daemon.place('m'));
    const ready = async () =>
      Object.fromEntries((await daemon.client.image(reference)).blobs.map((blob) => [blob.path, blob.ready]));
    const expected = {
      'config.json': FILES[0].bytes.length,
      'model.safetensors.index.json': files[1].bytes.length,
      'a.safetensors': 3 << 20,
      'b.safetensors': 3 << 20,
      'pytorch_model.bin': 2 << 20,
    };
    let last: unknown;
    await until(10_000, 'no headers', async () => {
      last = await ready();
      return (
        Object.entries(expected).every(([path, size]) => (last as Record<string, number>)[path] >= size) || undefined
      );
    });
    await sleep(300);
    assert.ok(
      Object.values((await ready()) as Record<string, number>).reduce((a, b) => a + b) < 14 << 20,
      JSON.stringify(last),
    );
    await daemon.nymph('umount', daemon.place('m'));
    await mount(daemon, reference, daemon.place('m'), '--prefetch', 'all');
    for (const { path } of shards) await isRight(daemon, reference, path);
    const filled = daemon.logged('"filling"').map((line) => (JSON.parse(line) as { path: string }).path);
    assert.deepEqual(filled, ['b.safetensors', 'a.safetensors', 'pytorch_model.bin']);
  });

  test('an OCI artifact whose layers have titles is a folder of files', async (t) => {
    const titled = FILES.map((file) => ({
      ...file,
      mediaType: 'application/octet-stream',
      annotations: { 'org.opencontainers.image.title': file.path },
    }));
    const directory = scratch(t);
    writeTruth(join(directory, 'truth'), FILES);
    makeModel(join(directory, 'layout'), 'v1', titled, {
      artifactType: 'application/vnd.example.files',
      configType: 'application/vnd.oci.empty.v1+json',
    });
    const daemon = await testDaemon(t);
    const place = daemon.place('m');
    await mount(daemon, `oci:${join(directory, 'layout')}:v1`, place);
    assert.equal((await sums(place)).out.toString(), (await sums(join(directory, 'truth'))).out.toString());
  });
});

/** A process that has a file open, and reads all of it when it is asked to. */
function startHolder(t: TestContext, path: string): { sum(): Promise<string>; close(): Promise<void> } {
  const script = `
    const { openSync, readSync } = require('node:fs');
    const fd = openSync(process.argv[1], 'r');
    process.stdin.on('data', () => {
      const hash = require('node:crypto').createHash('sha256');
      const buffer = Buffer.alloc(1 << 20);
      for (let at = 0, got; (got = readSync(fd, buffer, 0, buffer.length, at)) > 0; at += got) hash.update(buffer.subarray(0, got));
      process.stdout.write(hash.digest('hex') + '\\n');
    });`;
  const child = spawn(process.execPath, ['-e', script, path], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => void child.kill('SIGKILL'));
  return {
    async sum() {
      child.stdin.write('x');
      const [line] = (await once(child.stdout, 'data')) as [Buffer];
      return line.toString().trim();
    },
    async close() {
      const closed = once(child, 'close');
      child.kill();
      await closed;
    },
  };
}

const sha256 = (bytes: Uint8Array) => createHash('sha256').update(bytes).digest('hex');

function noPassthrough(): string | false {
  const [major, minor] = release().split('.').map(Number);
  return (major < 6 || (major === 6 && minor < 9)) && `needs Linux 6.9 for passthrough; this is ${release()}`;
}
