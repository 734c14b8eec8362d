/** RAFS v5 images of our own through the whole program: the kernel shows them as the trees that they were made of. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cannotMount, type TestDaemon, testDaemon } from '../daemon.ts';
import { type MadeV5, makeV5 } from '../made-v5.ts';
import { type CompareOptions, checkTree, describe as tell, writeManifest } from '../manifest.ts';
import { makeBigFile, makeKinds, makeManyFiles } from '../tree.ts';

const HOWS = ['order', 'random', 'mmap', 'parallel'] as const;
const SHAPES: [string, MadeV5][] = [
  ['zstd', {}],
  ['lz4_block, sha256, 64 KiB, aligned', { codec: 'lz4_block', digester: 'sha256', chunkSize: 1 << 16, aligned: true }],
  ['none, aligned, and blobs that say so', { codec: 'none', aligned: true, alignedFlag: true }],
  ['gzip, 16 KiB, holes', { codec: 'gzip', chunkSize: 1 << 14, holes: true }],
  ['of the first builders', { codec: 'lz4_block', extended: false, numbered: false, padding: 5 }],
  ['with the bootstrap inside of its blob', { inline: true, chunkSize: 1 << 16 }],
  ['many blobs', { blobOf: (path) => path.length % 7, holes: true }],
];

describe('RAFS v5', { skip: cannotMount() }, () => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-v5-'));
  const manifest = join(directory, 'manifest.jsonl');
  after(() => rmSync(directory, { recursive: true }));
  before(() => {
    const tree = join(directory, 'tree');
    mkdirSync(join(tree, 'many'), { recursive: true });
    makeKinds(tree);
    makeBigFile(join(tree, 'big'), 4_000_001);
    makeManyFiles(join(tree, 'many'), { count: 200, maxSize: 20_000 });
    const lines: string[] = [];
    writeManifest(tree, (line) => lines.push(line));
    writeFileSync(manifest, lines.join(''));
  });
  const make = async (name: string, options: MadeV5 = {}) => {
    const folder = join(directory, name);
    await makeV5(join(directory, 'tree'), folder, options);
    return folder;
  };
  const compare = async (place: string, how: CompareOptions['how']) =>
    assert.deepEqual((await checkTree(place, manifest, { how })).slice(0, 5).map(tell), [], how);
  const run = async (daemon: TestDaemon, ...args: string[]) => {
    const { status, err, json } = await daemon.nymph(...args);
    assert.equal(status, 0, err);
    return json as Record<string, unknown>;
  };

  for (const [name, options] of SHAPES)
    test(`an image is as its tree: ${name}`, async (t) => {
      const daemon = await testDaemon(t);
      const reference = `rafs:${await make(name.replaceAll(/\W/g, '-'), options)}`;
      const place = daemon.place('m');
      for (const via of options.holes ? ['erofs', 'fuse'] : ['erofs'])
        for (const how of name === 'zstd' ? HOWS : HOWS.slice(3)) {
          await run(daemon, 'mount', '--prefetch', 'none', '--via', via, reference, place);
          await compare(place, how);
          await run(daemon, 'umount', place);
          await run(daemon, 'prune', '--all');
        }
    });

  test('commands say what it is, and it is verified like any other', async (t) => {
    const daemon = await testDaemon(t);
    const reference = `rafs:${await make('commands')}`;
    const inspection = await run(daemon, 'inspect', reference);
    assert.equal(inspection.format, 'RAFS v5');
    const { verifiable, statement } = inspection.integrity as { verifiable: boolean; statement: string };
    assert.equal(verifiable, true);
    assert.match(statement, /Every chunk has a blake3 digest in the bootstrap/);
    const check = await run(daemon, 'run-check', reference);
    assert.equal(check.lazy, true);
    assert.match(String(check.reason), /RAFS v5/);
    const pulled = await run(daemon, 'pull', reference);
    assert.equal((pulled.image as { format: string }).format, 'rafs-v5');
    const verified = await run(daemon, 'verify', reference);
    assert.deepEqual([verified.bad, verified.absent], [[], 0]);
    assert.ok(Number(verified.verified) > 200);
    const place = daemon.place('m');
    await run(daemon, 'mount', reference, place);
    await compare(place, 'parallel');
    const status = await run(daemon, 'status', reference);
    assert.deepEqual([status.format, status.verifiable, status.ready], ['rafs-v5', true, status.size]);
    const listed = await run(daemon, 'ls');
    assert.deepEqual(
      (listed.mounts as { directory: string; state: string }[]).map((mount) => [mount.directory, mount.state]),
      [[place, 'ok']],
    );
  });

  test('a translation that the disk damaged is made again, the same', async (t) => {
    const daemon = await testDaemon(t);
    const reference = `rafs:${await make('damage')}`;
    const place = daemon.place('m');
    await run(daemon, 'mount', '--prefetch', 'none', reference, place);
    await run(daemon, 'umount', place);
    const images = join(daemon.root, 'images');
    const path = join(images, readdirSync(images)[0], 'bootstrap');
    const good = readFileSync(path);
    const bad = Buffer.from(good);
    bad[bad.length >> 1] ^= 1;
    writeFileSync(path, bad);
    await run(daemon, 'mount', '--prefetch', 'none', reference, place);
    assert.ok(readFileSync(path).equals(good));
    await compare(place, 'parallel');
  });

  test('a mount lives through kills, a restart, and is mounted again from the cache alone', async (t) => {
    const daemon = await testDaemon(t);
    const folder = await make('kills');
    const place = daemon.place('m');
    await run(daemon, 'mount', '--prefetch', 'none', `rafs:${folder}`, place);
    const compared = compare(place, 'parallel');
    for (let i = 0; i < 2; i++) {
      const { pid } = await daemon.client.health();
      await daemon.kill('daemon');
      await daemon.another(pid);
    }
    await compared;
    await daemon.kill('daemon', 'supervisor');
    await daemon.start();
    await compare(place, 'random');
    await run(daemon, 'umount', place);
    await run(daemon, 'pull', `rafs:${folder}`);
    // Nothing but the bootstrap, which says which image the folder is, can be read from now on.
    renameSync(join(folder, 'blobs'), join(folder, 'gone'));
    mkdirSync(join(folder, 'blobs'));
    await run(daemon, 'mount', `rafs:${folder}`, place);
    await compare(place, 'order');
  });
});
