import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { ledgerOf } from '../../src/cache/ledger.ts';
import { mergeLedgers } from '../../src/cache/merge-ledgers.ts';
import { chunkAddressOffset, readInode, S_IFREG } from '../../src/erofs/inode.ts';
import { walkTree } from '../../src/erofs/walk.ts';
import { type Bootstrap, openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import { describeBootstrap } from '../../src/formats/rafs/describe.ts';
import { indexStartupFiles } from '../../src/formats/rafs/startup-files.ts';
import { decodeMember, findBootstrapInBlob, TAIL_SIZE } from '../../src/formats/rafs/toc.ts';
import { tarHeader } from '../../src/formats/rafs/write/tar.ts';
import type { Codec, DigestAlgorithm } from '../../src/image/image.ts';
import { APP_MANIFEST, FIXTURES } from '../fixtures.ts';
import { readManifest } from '../manifest/rows.ts';
import { noiseBytes, textBytes } from '../tree.ts';
import { checkImage, type ReadStored, rowsOf } from './rafs-reading.ts';
import { buildV5, type ImageV5, type NodeV5, type OptionsV5 } from './rafs-v5-builder.ts';

const FILE = 0o100644;
const DIR = 0o040755;
const CHUNK = 16384;

function reader(image: ImageV5): ReadStored {
  return (id, offset, length) => image.blobs.get(id)!.subarray(offset, offset + length);
}

function open(image: ImageV5, blobId?: string) {
  const bootstrap = openBootstrap(image.bootstrap, blobId);
  const result = readImage(bootstrap);
  checkImage(result.image);
  return { bootstrap, result, image: result.image };
}

/** A tree with every kind of inode, in two blobs. */
function kinds(): { root: NodeV5; first: NodeV5; deep: NodeV5; large: NodeV5 } {
  const shared = noiseBytes(2 * CHUNK + 77, 3);
  const first: NodeV5 = { name: 'first', mode: 0o104751, uid: 12, gid: 70000, nlink: 3, content: textBytes(5000, 1) };
  first.xattrs = [
    ['user.b', Buffer.from('two')],
    ['security.capability', Buffer.from([1, 0, 0, 2, 0, 32, 0, 0])],
  ];
  const large: NodeV5 = {
    name: 'large',
    mode: FILE,
    content: textBytes(5 * CHUNK + 1, 2),
    mtime: -7,
    mtimeNs: 999_999_999,
  };
  const deep: NodeV5 = { name: 'deep', mode: DIR, children: [large, { name: 'again', mode: FILE, linkTo: first }] };
  const wide = Array.from({ length: 700 }, (_, i) => ({
    name: `file-with-a-name-that-takes-some-room-${String(i).padStart(4, '0')}`,
    mode: FILE,
    content: Buffer.from(`${i}`.repeat(i % 50)),
  }));
  const root: NodeV5 = {
    name: '/',
    mode: DIR,
    children: [
      first,
      { name: 'other-name', mode: FILE, linkTo: first },
      deep,
      { name: 'empty', mode: FILE, mtime: 1_700_000_000, mtimeNs: 5 },
      { name: 'exact', mode: FILE, content: noiseBytes(2 * CHUNK, 5) },
      { name: 'shared-a', mode: FILE, content: shared },
      { name: 'shared-b', mode: FILE, content: shared, blob: 1 },
      { name: 'link', mode: 0o120777, target: Buffer.from('deep/large') },
      { name: 'long-link', mode: 0o120777, target: Buffer.from('x'.repeat(4096)) },
      { name: 'fifo', mode: 0o010600 },
      { name: 'socket', mode: 0o140755 },
      { name: 'char', mode: 0o020666, rdev: 0x00100103 },
      { name: 'block', mode: 0o060660, rdev: 0x801 },
      { name: Buffer.from([0xff, 0x66, 0xfe]), mode: FILE, content: Buffer.from('not UTF-8') },
      { name: 'wide', mode: DIR, children: wide, xattrs: [['trusted.overlay.opaque', Buffer.from('y')]] },
      { name: 'n'.repeat(255), mode: DIR, children: [] },
      {
        name: 'acl',
        mode: FILE,
        xattrs: [
          ['system.posix_acl_access', Buffer.alloc(28, 2)],
          ['user.large', noiseBytes(6000, 8)],
        ],
      },
    ],
  };
  return { root, first, deep, large };
}

/** What must be found of a tree: one entry a name, by path. */
function expected(root: NodeV5): Map<string, Record<string, unknown>> {
  const found = new Map<string, Record<string, unknown>>();
  const visit = (node: NodeV5, path: Buffer): void => {
    const from = node.linkTo ?? node;
    const row: Record<string, unknown> = {
      mode: `0o${from.mode.toString(8)}`,
      uid: from.uid ?? 0,
      gid: from.gid ?? 0,
    };
    if (path.length > 0) row.mtime = (from.mtime ?? 0) + ((from.mtime ?? 0) < 0 && from.mtimeNs ? 1 : 0);
    const type = from.mode >> 12;
    if (type !== 4) row.nlink = from.nlink ?? 1;
    if (type === 8) {
      row.size = from.content?.length ?? 0;
      row.sha256 = createHash('sha256')
        .update(from.content ?? '')
        .digest('hex');
    }
    if (from.target) row.target = from.target.toString();
    if (from.rdev) row.rdev = [(from.rdev >>> 8) & 0xfff, (from.rdev & 0xff) | ((from.rdev >>> 12) & 0xfff00)];
    if (from.xattrs)
      row.xattrs = Object.fromEntries(from.xattrs.map(([key, value]) => [key, value.toString('base64')]));
    found.set((path.length > 0 ? path : Buffer.from('/')).toString('latin1'), row);
    for (const child of node.children ?? [])
      visit(child, Buffer.concat([path, Buffer.from('/'), Buffer.from(child.name)]));
  };
  visit(root, Buffer.alloc(0));
  return found;
}

function checkTree(image: ImageV5, root: NodeV5, blobId?: string): ReturnType<typeof open> {
  const opened = open(image, blobId);
  const wanted = expected(root);
  const rows = rowsOf(opened.bootstrap, opened.image, reader(image));
  assert.equal(rows.size, wanted.size);
  for (const { path, ...row } of rows.values()) {
    const bytes = typeof path === 'string' ? Buffer.from(path) : Buffer.from(path.base64, 'base64');
    assert.deepEqual({ ...row }, wanted.get(bytes.toString('latin1')), bytes.toString());
  }
  return opened;
}

const CODECS: Codec[] = ['none', 'lz4_block', 'zstd', 'gzip'];
const DIGESTERS: DigestAlgorithm[] = ['blake3', 'sha256'];
for (const codec of CODECS)
  for (const digester of DIGESTERS)
    test(`every kind of inode comes back: ${codec}, ${digester}`, () => {
      const { root } = kinds();
      for (const shape of [{}, { aligned: true }, { aligned: true, alignedFlag: true }, { extended: false }]) {
        if (codec === 'gzip' && shape.extended === false) continue;
        const { image, bootstrap, result } = checkTree(
          buildV5(root, { codec, digester, chunkSize: CHUNK, ...shape }),
          root,
        );
        assert.equal(image.format, 'rafs-v5');
        assert.equal(image.verifiable, true);
        assert.equal(image.blobs.length, 2);
        assert.equal(result.counts.hardLinks, 2);
        const described = describeBootstrap(bootstrap, result);
        assert.deepEqual([described.format, described.compressor, described.digester], ['RAFS v5', codec, digester]);
        assert.deepEqual(described.counts, result.counts);
      }
    });

test('the bootstrap of a converted image of two layers agrees with its manifest', () => {
  const bytes = zstdDecompressSync(readFileSync(join(FIXTURES, 'app-v5.boot.zst')));
  const bootstrap = openBootstrap(bytes);
  const { image } = readImage(bootstrap);
  checkImage(image);
  const rows = rowsOf(bootstrap, image);
  const manifest = readManifest(APP_MANIFEST);
  assert.equal(rows.size, manifest.length);
  for (const { sha256, ...row } of manifest) {
    const found = rows.get(JSON.stringify(row.path));
    // The builder lost the times of two directories.
    if (found?.mode.startsWith('0o4') && found.mtime === 0) row.mtime = 0;
    assert.deepEqual(found, row);
  }
  assert.equal(image.prefetch, 'all');
  assert.deepEqual(
    image.blobs.map(({ chunks, storedSize }) => [chunks.count, storedSize]),
    [
      [212, 9567832],
      [6, 2201968],
    ],
  );
});

test('the same bytes give the same image, in another buffer too', () => {
  const { bootstrap } = buildV5(kinds().root, { chunkSize: CHUNK });
  const shifted = Buffer.concat([Buffer.alloc(3), bootstrap]).subarray(3);
  const [one, other] = [bootstrap, shifted].map((bytes) => Buffer.from(openBootstrap(bytes).erofs.bytes));
  assert.ok(one.equals(other));
});

/** Two images of one blob: `whole` has all of its chunks, `part` leaves some out. */
function twoImages(options: OptionsV5): { whole: ImageV5; part: ImageV5 } {
  const files: NodeV5[] = Array.from({ length: 9 }, (_, i) => ({
    name: `f${i}`,
    mode: FILE,
    content: noiseBytes(i === 4 ? 3 * CHUNK + 9 : 100 + i * 1000, i + 1),
  }));
  const whole = buildV5({ name: '/', mode: DIR, children: files }, { chunkSize: CHUNK, ...options });
  // The same tables, but the middle of the tree is empty: as after a merge that removed some files.
  const kept = files.map((file, i) =>
    i % 2 === 1 ? { ...file, name: file.name, mode: DIR, children: [], content: undefined } : file,
  );
  const part = buildV5({ name: '/', mode: DIR, children: kept }, { chunkSize: CHUNK, ...options });
  for (const file of files.filter((_, i) => i % 2 === 0)) {
    const [from, to] = [whole.place(file), part.place(file)];
    const count = Math.ceil(file.content!.length / CHUNK);
    whole.bootstrap.copy(part.bootstrap, to.chunks, from.chunks, from.chunks + count * 80);
  }
  const table = (image: ImageV5) => Number(image.bootstrap.readBigUInt64LE(72));
  whole.bootstrap.copy(part.bootstrap, table(part), table(whole), table(whole) + 64);
  const ids = [whole, part].map((image) => [...image.blobs.keys()][0]);
  const at = part.bootstrap.indexOf(ids[1]);
  part.bootstrap.write(ids[0], at, 'latin1');
  return { whole, part };
}

for (const [name, options] of [
  ['aligned chunks', { aligned: true, alignedFlag: true }],
  ['chunks at any offset', {}],
  ['aligned chunks of a blob that does not say so', { aligned: true }],
] as const)
  test(`images that use other chunks of a blob share it: ${name}`, () => {
    const { whole, part } = twoImages({ ...options, codec: 'none' });
    const [a, b] = [whole, part].map((image) => readImage(openBootstrap(image.bootstrap)).image.blobs[0]);
    assert.ok(b.chunks.count < a.chunks.count);
    const merged = mergeLedgers(ledgerOf(b), ledgerOf(a));
    assert.ok(merged, 'the tables agree');
    assert.deepEqual(merged.chunks, a.chunks);
  });

test('aligned chunks stay where they are; others get a block more for each before them', () => {
  const content = [100, 5000, CHUNK, 1].map((size, i) => noiseBytes(size, i));
  const root: NodeV5 = {
    name: '/',
    mode: DIR,
    children: content.map((c, i) => ({ name: `${i}`, mode: FILE, content: c })),
  };
  const offsets = (options: OptionsV5) => {
    const [blob] = open(buildV5(root, { chunkSize: CHUNK, ...options })).image.blobs;
    return [...blob.chunks.offset.map((offset) => offset / 4096), blob.size / 4096];
  };
  assert.deepEqual(offsets({ aligned: true, alignedFlag: true }), [0, 1, 3, 7, 8]);
  assert.deepEqual(offsets({}), [0, 1, 3, 8, 10]);
  assert.deepEqual(offsets({ numbered: false }), [0, 1, 3, 8, 10]);
});

test('a file of whole chunks in aligned blobs is one extent for the kernel', () => {
  const large: NodeV5 = { name: 'large', mode: FILE, content: noiseBytes(5 * CHUNK, 1) };
  const image = buildV5(
    { name: '/', mode: DIR, children: [large] },
    { chunkSize: CHUNK, aligned: true, alignedFlag: true },
  );
  const { erofs } = open(image).bootstrap;
  walkTree(erofs, ({ inode }) => {
    if ((inode.mode & 0o170000) === S_IFREG) assert.equal(inode.union, 0x20 | Math.log2((8 * CHUNK) / 4096));
  });
});

test('prefetch by files and directories, and of the whole image', () => {
  const { root, first, deep, large } = kinds();
  const prefetch = (...nodes: NodeV5[]) => {
    const image = buildV5(root, { chunkSize: CHUNK, prefetch: nodes, aligned: true, alignedFlag: true });
    return open(image).image.prefetch;
  };
  assert.deepEqual(prefetch(), []);
  assert.equal(prefetch(first, root), 'all');
  // The two chunks of `exact` stand before it.
  assert.deepEqual(prefetch(first), [{ blob: 0, offset: 2 * CHUNK, length: 5000 }]);
  const ranges = prefetch(large, deep);
  assert.ok(ranges !== 'all');
  assert.deepEqual(
    ranges.map(({ length }) => length),
    [5 * CHUNK + 1, 5000],
  );
});

test('holes are zeros to the kernel, and nothing is fetched for them', () => {
  const content = Buffer.concat([noiseBytes(CHUNK, 1), Buffer.alloc(CHUNK), noiseBytes(CHUNK, 2), Buffer.alloc(99)]);
  const file: NodeV5 = { name: 'f', mode: FILE, content, holes: [1, 3] };
  const hollow: NodeV5 = { name: 'hollow', mode: FILE | 0o111, content: Buffer.alloc(CHUNK + 5), holes: [0, 1] };
  const root: NodeV5 = { name: '/', mode: DIR, children: [file, hollow] };
  const { bootstrap, image } = checkTree(buildV5(root, { chunkSize: CHUNK }), root);
  assert.equal(image.blobs[0].chunks.count, 2);
  const blocks = new Map<number, number[]>();
  walkTree(bootstrap.erofs, ({ inode }) => {
    if ((inode.mode & 0o170000) !== S_IFREG) return;
    const at = chunkAddressOffset(readInode(bootstrap.erofs, inode.nid));
    const count = Math.ceil(inode.size / CHUNK);
    blocks.set(
      inode.size,
      Array.from({ length: count }, (_, k) => bootstrap.erofs.view.getUint32(at + k * 8 + 4, true)),
    );
  });
  assert.deepEqual(
    [...blocks.values()],
    [
      [0, 0xffffffff, 5, 0xffffffff],
      [0xffffffff, 0xffffffff],
    ],
  );
  assert.deepEqual([...indexStartupFiles(bootstrap.erofs).executables.offset], [], 'a hole is in no blob');
});

test('the first builders: no extended table, chunks without numbers, padding behind the blob table', () => {
  const { root } = kinds();
  for (const padding of [0, 1, 7])
    checkTree(buildV5(root, { chunkSize: CHUNK, extended: false, numbered: false, padding }), root);
});

test('without the mark of explicit owners all belongs to root', () => {
  const image = buildV5(kinds().root, { chunkSize: CHUNK });
  image.bootstrap.writeUInt32LE(image.bootstrap.readUInt32LE(16) & ~0x10, 16);
  for (const row of rowsOf(open(image).bootstrap, open(image).image).values())
    assert.deepEqual([row.uid, row.gid], [0, 0]);
});

test('a bootstrap inside its blob is found at the end, and takes the id that it is given', () => {
  const { root } = kinds();
  for (const child of root.children!) delete child.blob;
  const image = buildV5(root, { chunkSize: CHUNK, inline: true });
  const [data] = image.blobs.values();
  const object = Buffer.concat([
    data,
    tarHeader('image.blob', data.length),
    image.bootstrap,
    tarHeader('image.boot', image.bootstrap.length),
  ]);
  const { bootstrap: member } = findBootstrapInBlob(object.subarray(-TAIL_SIZE), object.length);
  assert.ok(member);
  const stored = object.subarray(member.offset, member.offset + member.compressedSize);
  const bytes = decodeMember(member, stored, 1 << 30);
  assert.throws(() => openBootstrap(bytes), { code: 'corrupt', message: /"x+" is no blob id/ });
  const id = createHash('sha256').update(object).digest('hex');
  const found = { ...image, bootstrap: Buffer.from(bytes), blobs: new Map([[id, object]]) };
  const opened = checkTree(found, root, id);
  assert.equal(opened.image.blobs[0].storedSize, data.length);
});

test('blobs that no file has chunks in are left out', () => {
  const root: NodeV5 = {
    name: '/',
    mode: DIR,
    children: [{ name: 'f', mode: FILE, content: noiseBytes(9, 1), blob: 1 }],
  };
  const { image, bootstrap } = checkTree(buildV5(root, { chunkSize: CHUNK }), root);
  assert.deepEqual([image.blobs.length, bootstrap.erofs.devices.length, bootstrap.blobs.length], [1, 1, 1]);
});

test('an image without data is read', () => {
  const root: NodeV5 = { name: '/', mode: DIR, children: [] };
  assert.equal(checkTree(buildV5(root), root).image.inodes, 1);
});

test('libraries are found in the translated tree', () => {
  const library: NodeV5 = { name: 'libc.so.6', mode: FILE, content: noiseBytes(3000, 1) };
  const lib: NodeV5 = { name: 'lib', mode: DIR, children: [library] };
  const { bootstrap } = open(buildV5({ name: '/', mode: DIR, children: [lib] }));
  assert.deepEqual(
    [...indexStartupFiles((bootstrap as Bootstrap).erofs).libraries],
    [['libc.so.6', { blob: 0, offset: 0, length: 3000 }]],
  );
});
