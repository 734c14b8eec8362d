import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { writeOciLayout } from '../../src/build/oci-layout.ts';
import { kernelChunkSize, readInode } from '../../src/erofs/inode.ts';
import { walkTree } from '../../src/erofs/walk.ts';
import type { Bootstrap } from '../../src/formats/rafs/bootstrap.ts';
import { chunkInfoFromMeta } from '../../src/formats/rafs/chunk-info.ts';
import { unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import { bootstrapLayer } from '../../src/formats/rafs/manifest.ts';
import { decodeMember, findBootstrapInBlob, TAIL_SIZE } from '../../src/formats/rafs/toc.ts';
import { type BuildOptions, type BuiltImage, buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { encodeChunkInfo } from '../../src/formats/rafs/write/chunk-info.ts';
import { walkDirectory } from '../../src/formats/rafs/write/directory.ts';
import { contentOf, type SourceEntry } from '../../src/formats/rafs/write/source.ts';
import type { Image } from '../../src/image/image.ts';
import { randomSeries } from '../manifest/read.ts';
import type { Row } from '../manifest/rows.ts';
import { writeManifest } from '../manifest.ts';
import { makeKinds, noiseBytes, textBytes } from '../tree.ts';
import { openBuilt, rowsOf } from './rafs-reading.ts';

const FILE = 0o100644;

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-write-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

interface Built extends BuiltImage {
  opened: Bootstrap;
  image: Image;
  rows: Map<string, Row>;
  directory: string;
}

/** Builds, then reads everything again with the project's reader: each chunk is decoded and its digest checked. */
async function build(
  t: TestContext,
  entries: AsyncIterable<SourceEntry> | Iterable<SourceEntry>,
  options: Partial<BuildOptions> = {},
): Promise<Built> {
  const directory = scratch(t);
  const blobs = join(directory, 'blobs');
  const built = await buildRafsV6(entries, { bootstrap: join(directory, 'bootstrap'), blobs, ...options });
  const { opened, image, read } = openBuilt(built, blobs);
  assert.equal(image.verifiable, true);
  return { ...built, opened, image, rows: rowsOf(opened, image, read), directory };
}

const sha256 = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
const file = (path: string, content: Uint8Array | string): SourceEntry => ({
  path,
  mode: FILE,
  ...contentOf(Buffer.from(content)),
});
const row = (built: Built, path: string): Row => {
  const found = built.rows.get(JSON.stringify(path));
  assert.ok(found, `${path} is in the image`);
  return found;
};
/** What the kernel takes for a chunk of a file. */
function extentOf(built: Built, path: string): number {
  let nid = -1;
  walkTree(built.opened.erofs, (visit) => {
    if (visit.path().toString() === path) nid = visit.inode.nid;
  });
  return kernelChunkSize(readInode(built.opened.erofs, nid));
}

test('every kind of inode comes back, in each codec and shape', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  makeKinds(root);
  const expected = new Map<string, Row>();
  writeManifest(root, (line) => {
    const { mtimeNanoseconds: _, ...want } = JSON.parse(line) as Row;
    expected.set(JSON.stringify(want.path), want);
  });
  const shapes: [string, Partial<BuildOptions>][] = [
    ['zstd', {}],
    ['zstd, sha256, no ToC', { digester: 'sha256', toc: false, level: 1 }],
    ['lz4_block', { compressor: 'lz4_block', chunkSize: 1 << 16 }],
    ['none, 4 KiB', { compressor: 'none', chunkSize: 4096 }],
    ['16 MiB chunks', { chunkSize: 1 << 24 }],
    ['batches', { batchSize: 1 << 17 }],
    ['batches of lz4_block', { batchSize: 4096, compressor: 'lz4_block', toc: false }],
    ['a blob for each first letter', { split: (path) => path.toString('latin1').slice(0, 2), batchSize: 1 << 16 }],
  ];
  for (const [name, options] of shapes) {
    const built = await build(t, walkDirectory(root), options);
    assert.deepEqual(Object.fromEntries(built.rows), Object.fromEntries(expected), name);
    assert.equal(built.names, expected.size);
    for (const { id, size } of built.blobs) {
      const bytes = readFileSync(join(built.directory, 'blobs', id));
      assert.equal(sha256(bytes), id, `${name}: the id is the digest of the object`);
      assert.equal(bytes.length, size);
    }
    assert.deepEqual(readdirSync(join(built.directory, 'blobs')).sort(), built.blobs.map(({ id }) => id).sort());
  }
});

test('the same entries give the same bytes, in whatever order they come', async (t) => {
  const entries: SourceEntry[] = [{ path: '/', mode: 0o040750, mtime: 5 }];
  for (let i = 0; i < 300; i++) entries.push(file(`/d${i % 7}/f${i}`, textBytes(i * 40, i)));
  entries.push({ path: '/d1', mode: 0o040700 }, { path: 'again', mode: FILE, linkTo: '/d3/f10' });
  const first = await build(t, entries, { batchSize: 8192 });
  const random = randomSeries(9);
  const mixed = entries.map((entry) => ({ entry, key: random() })).sort((a, b) => a.key - b.key);
  const second = await build(
    t,
    mixed.map(({ entry }) => entry),
    { batchSize: 8192 },
  );
  assert.deepEqual(second.blobs, first.blobs);
  assert.deepEqual(readFileSync(second.bootstrap), readFileSync(first.bootstrap));
  assert.equal(row(first, '/again').nlink, 2);
  assert.equal(row(first, '/d2').mode, '0o40755');
  assert.equal(row(first, '/d1').mode, '0o40700');
});

test('equal chunks are stored once, over files and blobs', async (t) => {
  const content = noiseBytes(10_000, 3);
  const built = await build(t, [file('/a', content), file('/b', content), file('/c/d', content.subarray(0, 4096))], {
    chunkSize: 4096,
    split: (path) => path.toString(),
  });
  assert.deepEqual(built.duplicates, { chunks: 4, bytes: 14_096 });
  assert.equal(built.blobs.length, 1);
  assert.equal(built.image.blobs[0].chunks.count, 3);
  assert.equal(row(built, '/c/d').sha256, sha256(content.subarray(0, 4096)));
});

test('the kernel sees one extent where chunks stand behind each other', async (t) => {
  const zeros = Buffer.alloc(3 * 4096);
  const built = await build(
    t,
    [file('/big', noiseBytes(4096 * 5 + 1, 1)), file('/zeros', zeros), file('/small', 'x')],
    {
      chunkSize: 4096,
    },
  );
  assert.equal(extentOf(built, '/big'), 8 * 4096);
  assert.equal(extentOf(built, '/zeros'), 4096, 'one chunk three times is no extent');
  assert.equal(extentOf(built, '/small'), 4096);
});

test('the ToC, the chunk information and the prefetch table lead where they should', async (t) => {
  const built = await build(t, [file('/a/one', textBytes(50_000, 1)), file('/b', textBytes(9000, 2))], {
    chunkSize: 1 << 14,
    prefetch: ['/b', '/a'],
  });
  const [{ id, meta }] = built.blobs;
  const object = readFileSync(join(built.directory, 'blobs', id));
  const [entry] = built.opened.blobs;
  const known = { size: entry.tocSize, sha256: entry.tocDigest };
  const trailer = findBootstrapInBlob(object.subarray(-TAIL_SIZE), object.length, known);
  const { chunkInfo, chunkInfoHeader } = trailer;
  assert.ok(chunkInfo && chunkInfoHeader && !trailer.bootstrap);
  const part = (member: typeof chunkInfo): Uint8Array =>
    decodeMember(member, object.subarray(member.offset, member.offset + member.compressedSize), 1 << 20);
  assert.deepEqual(meta.subarray(0, chunkInfo.uncompressedSize), Buffer.from(part(chunkInfo)));
  assert.deepEqual(meta.subarray(-4096), Buffer.from(part(chunkInfoHeader)));
  const toc = object.subarray(-entry.tocSize, -512);
  assert.deepEqual(
    toc.subarray(24, 56).toString('hex'),
    sha256(object.subarray(0, entry.chunkInfo.offset)),
    'the digest of image.blob covers the data and its tar header',
  );
  assert.deepEqual(
    built.image.prefetch,
    // `/b` stands first in the blob, as in the list, and `/a/one` right behind it.
    [{ blob: 0, offset: 0, length: 12_288 + 50_000 }],
  );
  const all = await build(t, [file('/a', 'x')], { prefetch: 'all' });
  assert.equal(all.image.prefetch, 'all');
});

test('chunk information in version 1 is packed as upstream packs it', async (t) => {
  const chunk = { digest: Buffer.alloc(32), blob: 0, compressed: true, batch: -1, batchOffset: 0 };
  const vectors = encodeChunkInfo(
    [
      { ...chunk, index: 0, offset: 0, size: 16931, storedOffset: 0, storedSize: 4828 },
      { ...chunk, index: 1, offset: 0x5000, size: 13400, storedOffset: 4828, storedSize: 2974 },
    ],
    null,
  );
  // The array of a blob that nydus-image 2.2 made.
  assert.equal(vectors.toString('hex'), '00000000002022040000000000b02d010050000000704503dc12000000d0b900');

  const content = Buffer.concat([textBytes(1 << 24, 1), noiseBytes(5_000_000, 2)]);
  const built = await build(t, [file('/a', content)], { chunkSize: 1 << 24 });
  const [{ chunks, frames }] = built.image.blobs;
  const [{ meta }] = built.blobs;
  for (let i = 0; i < 2; i++) {
    const place = meta.readBigUInt64LE(i * 16);
    const stored = meta.readBigUInt64LE(i * 16 + 8);
    const size = (place >> 44n) + ((place & 0xf00n) << 12n) + 1n;
    const storedSize = (stored >> 44n) + (((stored >> 40n) & 0xfn) << 20n) + 1n;
    assert.deepEqual([Number(place & 0xffffffff000n), Number(size)], [chunks.offset[i], chunks.size[i]]);
    assert.deepEqual([Number(stored & 0xffffffffffn), Number(storedSize)], [frames.offset[i], frames.size[i]]);
  }
  assert.deepEqual([...chunks.size], [1 << 24, 5_000_000]);
});

test('directories of any shape: full blocks, exact blocks, the longest names', async (t) => {
  const entries: SourceEntry[] = [];
  const add = (directory: string, count: number, length: number): void => {
    for (let i = 0; i < count; i++)
      entries.push({ path: `/${directory}/${String(i).padStart(length, 'n')}`, mode: 0o010600 });
  };
  add('long', 200, 255);
  // With `.` and `..` (27 bytes): 16 × 254 + 5 more make 4096 exactly.
  add('exact', 16, 242);
  entries.push({ path: '/exact/zzzz!', mode: 0o140600 });
  // The tail of one block does not fit behind the inode.
  add('nearly', 15, 255);
  add('wide', 5000, 4);
  entries.push({ path: '/empty', mode: 0o040755 });
  const built = await build(t, entries);
  assert.equal(built.blobs.length, 0);
  const names = (directory: string): number =>
    [...built.rows.keys()].filter((key) => key.startsWith(`"/${directory}/`)).length;
  assert.deepEqual(['long', 'exact', 'nearly', 'wide', 'empty'].map(names), [200, 17, 15, 5000, 0]);
});

test('an OCI layout holds the image as readers expect it', async (t) => {
  const built = await build(t, [file('/a', textBytes(30_000, 1)), file('/b', noiseBytes(5000, 2))], {
    chunkSize: 8192,
    batchSize: 8192,
    split: (path) => path.toString(),
  });
  const layout = join(built.directory, 'layout');
  const blobs = join(built.directory, 'blobs');
  const descriptor = await writeOciLayout(layout, built, {
    tag: 'one',
    blobs,
    config: { os: 'linux', architecture: 'arm64' },
  });
  await writeOciLayout(layout, built, { tag: 'two', blobs });
  const again = await writeOciLayout(layout, built, {
    tag: 'one',
    blobs,
    config: { os: 'linux', architecture: 'arm64' },
  });
  assert.deepEqual(again, descriptor);
  const index = JSON.parse(readFileSync(join(layout, 'index.json'), 'utf8'));
  const tags = index.manifests.map((m: typeof descriptor) => m.annotations?.['org.opencontainers.image.ref.name']);
  assert.deepEqual(tags, ['two', 'one']);
  const objects = join(layout, 'blobs', 'sha256');
  for (const name of readdirSync(objects)) assert.equal(sha256(readFileSync(join(objects, name))), name);
  const object = (digest: string): Buffer => readFileSync(join(objects, digest.slice(7)));
  const manifest = JSON.parse(object(descriptor.digest).toString());
  assert.equal(statSync(join(objects, descriptor.digest.slice(7))).size, descriptor.size);
  const config = JSON.parse(object(manifest.config.digest).toString());
  const layer = bootstrapLayer(manifest.layers);
  assert.equal(layer, manifest.layers[2]);
  const unpacked = unpackBootstrapLayer(object(layer.digest), 1 << 24);
  assert.deepEqual(Buffer.from(unpacked.bootstrap), readFileSync(built.bootstrap));
  assert.equal(config.rootfs.diff_ids[0], manifest.layers[0].digest);
  assert.equal(config.architecture, 'arm64');
  for (const blob of built.opened.blobs) {
    const info = chunkInfoFromMeta(blob, unpacked.blobMeta.get(blob.id)!);
    assert.equal(info.count, blob.chunkCount);
  }
});

test('what cannot be written is refused, and leaves nothing behind', async (t) => {
  const refuse = async (
    entries: SourceEntry[],
    options: Partial<BuildOptions>,
    code: string,
    why: RegExp,
  ): Promise<void> => {
    const directory = scratch(t);
    const blobs = join(directory, 'blobs');
    await assert.rejects(
      buildRafsV6(entries, { bootstrap: join(directory, 'bootstrap'), blobs, ...options }),
      (error: Error & { code: string }) => error.code === code && why.test(error.message),
      String(why),
    );
    const left = readdirSync(directory, { recursive: true }).filter((name) => name !== 'blobs');
    assert.ok(
      left.every((name) => /^blobs\/[0-9a-f]{64}$/.test(String(name))),
      `left behind: ${left}`,
    );
  };
  const one = [file('/a', 'x')];
  await refuse(one, { chunkSize: 5000 }, 'usage', /chunk size of 5000/);
  await refuse(one, { batchSize: 1 << 21 }, 'usage', /batch size/);
  await refuse(one, { chunkSize: 1 << 24, batchSize: 1 << 20 }, 'usage', /16 MiB/);
  await refuse(one, { prefetch: ['/b'] }, 'usage', /cannot prefetch \/b/);
  await refuse([...one, file('a', 'y')], {}, 'usage', /two entries describe/);
  await refuse([...one, file('/a/b', 'y')], {}, 'usage', /no directory/);
  await refuse([file('/a/../b', 'y')], {}, 'usage', /cannot be a path/);
  await refuse([file(`/${'n'.repeat(256)}`, 'y')], {}, 'usage', /cannot be a path/);
  await refuse([{ path: '/', mode: FILE }], {}, 'usage', /root/);
  await refuse([{ path: '/l', mode: FILE, linkTo: '/none' }], {}, 'usage', /is no file/);
  await refuse([{ path: '/l', mode: 0o120777 }], {}, 'unsupported', /symlink/);
  await refuse([{ path: '/l', mode: 0o030777 }], {}, 'usage', /no known type/);
  await refuse([{ path: '/f', mode: FILE, size: 5 }], {}, 'usage', /no content/);
  await refuse([{ path: '/n', mode: 0o020600, device: { major: 5000, minor: 1 } }], {}, 'unsupported', /device 5000:1/);
  const xattrs = [{ name: 'system.other', value: Buffer.from('x') }];
  await refuse([{ ...one[0], xattrs }], {}, 'unsupported', /extended attribute system.other/);
  await refuse([file('/0', noiseBytes(3 << 20, 1)), { ...file('/short', 'abc'), size: 9 }], {}, 'source', /too few/);
});

test('a file that goes or shrinks while it is read ends the building, and nothing is left', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  for (const name of ['a', 'b', 'c', 'd']) writeFileSync(join(root, name), noiseBytes(5_000_000, name.charCodeAt(0)));
  const options = { bootstrap: join(directory, 'bootstrap'), blobs: join(directory, 'blobs') };
  const entries: SourceEntry[] = [];
  for await (const entry of walkDirectory(root)) entries.push(entry);
  truncateSync(join(root, 'c'), 4_000_000);
  await assert.rejects(buildRafsV6(entries, options), /c became shorter/);
  rmSync(join(root, 'c'));
  symlinkSync('d', join(root, 'c'));
  await assert.rejects(buildRafsV6(entries, options), /cannot read .*c: ELOOP/);
  rmSync(join(root, 'c'));
  await assert.rejects(buildRafsV6(entries, options), /cannot read .*c: ENOENT/);
  assert.deepEqual(readdirSync(join(directory, 'blobs')), []);
});
