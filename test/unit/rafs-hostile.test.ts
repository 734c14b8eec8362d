import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { NymphError } from '../../src/errors.ts';
import { openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import { chunkInfoFromBlob, chunkInfoFromMeta, chunkInfoRange } from '../../src/formats/rafs/chunk-info.ts';
import { unpackBootstrapLayer } from '../../src/formats/rafs/layer.ts';
import type { Image } from '../../src/image/image.ts';
import { APP_LAYOUT } from '../fixtures.ts';
import { exampleBlob as blob } from '../fuzz/example-images.ts';
import { randomSeries } from '../manifest/read.ts';
import { buildBootstrap, type TestImage, type TestNode } from './rafs-builder.ts';
import { checkImage } from './rafs-reading.ts';

const FILE = 0o100644;
const DIR = 0o040755;
const CHUNK = 8192;

/** Three files of one and two blobs; `both` has chunks that lie apart. */
function testImage(): TestImage & { prefetch: TestNode[] } {
  const small: TestNode = { name: 'small', mode: FILE, size: 100, chunks: [[0, 0]] };
  const large: TestNode = {
    name: 'large',
    mode: FILE,
    size: 3 * CHUNK - 5,
    chunks: [
      [0, 1],
      [0, 2],
      [0, 3],
    ],
  };
  const both: TestNode = {
    name: 'both',
    mode: FILE,
    size: 2 * CHUNK,
    chunks: [
      [1, 0],
      [0, 1],
    ],
  };
  const sub: TestNode = { name: 'sub', mode: DIR, children: [large, small] };
  return {
    root: { name: '', mode: DIR, children: [both, sub, { name: 'empty', mode: FILE }] },
    chunkSize: CHUNK,
    blobs: [blob('a', [100, CHUNK, CHUNK, CHUNK - 5]), blob('b', [CHUNK])],
    prefetch: [],
  };
}

function read(bytes: Uint8Array): Image {
  const { image } = readImage(openBootstrap(bytes));
  checkImage(image);
  return image;
}

function refused(bytes: Uint8Array, message: RegExp, code = 'corrupt'): void {
  assert.throws(
    () => read(bytes),
    (error: NymphError) => {
      assert.ok(error instanceof NymphError, String(error));
      assert.match(error.message, message);
      assert.equal(error.code, code);
      return true;
    },
  );
}

test('tables of two blobs, and prefetch by files and directories', () => {
  const spec = testImage();
  const [both, sub] = spec.root.children!;
  const [large, small] = sub.children!;
  const image = read(buildBootstrap(spec));
  assert.deepEqual(
    image.blobs.map(({ chunks, frames }) => [chunks.count, frames.count]),
    [
      [4, 4],
      [1, 1],
    ],
  );
  assert.deepEqual([...image.blobs[0].chunks.offset], [0, 4096, 12288, 20480]);
  assert.deepEqual([...image.blobs[0].frames.offset], [0, 50, 4146, 8242]);
  assert.deepEqual(image.prefetch, []);
  const prefetch = (...nodes: TestNode[]) => read(buildBootstrap({ ...spec, prefetch: nodes })).prefetch;
  assert.equal(prefetch(small, spec.root), 'all');
  assert.deepEqual(prefetch(small), [{ blob: 0, offset: 0, length: 100 }]);
  assert.deepEqual(prefetch(sub), [{ blob: 0, offset: 0, length: 4096 + 3 * CHUNK - 5 }]);
  assert.deepEqual(prefetch(both, large), [
    { blob: 0, offset: 4096, length: CHUNK },
    { blob: 1, offset: 0, length: CHUNK },
    { blob: 0, offset: 4096, length: 3 * CHUNK - 5 },
  ]);
});

test('a prefetch entry outside the tree is refused', () => {
  const spec = testImage();
  const bytes = buildBootstrap({ ...spec, prefetch: [spec.root.children![0]] });
  bytes.writeUInt32LE(5, bytes.readUInt32LE(1152 + 40));
  refused(bytes, /prefetch/);
});

test('an image without data is read', () => {
  const image = read(buildBootstrap({ root: { name: '', mode: DIR, children: [] }, chunkSize: 4096, blobs: [] }));
  assert.deepEqual([image.inodes, image.blobs.length], [1, 0]);
});

test('a digest of zeros is none: the image is not verifiable', () => {
  const bytes = buildBootstrap(testImage());
  assert.equal(read(bytes).verifiable, true);
  bytes.writeUInt32LE(0, Number(bytes.readBigUInt64LE(1152 + 24)));
  assert.equal(read(bytes).verifiable, false);
});

test('the kernel must find the bytes that the chunk table means', () => {
  const kernelBits = (node: 'both' | 'large', bits: number) => {
    const spec = testImage();
    const target = node === 'both' ? spec.root.children![0] : spec.root.children![1].children![0];
    target.kernelBits = bits;
    return buildBootstrap(spec);
  };
  read(kernelBits('large', 1));
  read(kernelBits('large', 5));
  read(kernelBits('both', 1));
  refused(kernelBits('large', 0), /chunk format/);
  refused(kernelBits('both', 2), /kernel would read chunk 1/);
});

type Change = [what: string, where: 'address' | 'record' | 'blob' | 'rafs', at: number, value: number, message: RegExp];
const CHANGES: Change[] = [
  ['a chunk index that is not in the table', 'address', 0, 9, /index/],
  ['a device that does not exist', 'address', 2, 3, /device/],
  ['a device that is the bootstrap', 'address', 2, 0, /device/],
  ['an index in the upper bits', 'address', 3, 1, /index/],
  ['another block', 'address', 4, 9, /block/],
  ['a record of no blob', 'record', 32, 2, /blob_index/],
  ['a record with another index', 'record', 75, 1, /index/],
  ['a stored size of 0', 'record', 40, 0, /compressed_size/],
  ['a stored size above the chunk', 'record', 42, 1, /compressed_size/],
  ['an uncompressed size that is too small', 'record', 44, 99, /needs 100 bytes/],
  ['an uncompressed size above the limit', 'record', 46, 1, /uncompressed_size/],
  ['a stored place out of the data', 'record', 51, 1, /compressed_offset/],
  ['an uncompressed place that is not aligned', 'record', 56, 1, /uncompressed_offset/],
  ['an uncompressed place out of the blob', 'record', 60, 1, /uncompressed_offset/],
  ['another index of a blob', 'blob', 64, 1, /blob_index/],
  ['another chunk size', 'blob', 68, 1, /chunk_size/],
  ['too many chunks', 'blob', 75, 2, /chunk_count/],
  ['an unknown compressor', 'blob', 76, 4, /compressor/],
  ['an unknown digest', 'blob', 80, 2, /digester/],
  ['chunks that are not aligned', 'blob', 84, 0x20, /ALIGNED/],
  ['batches without chunk information', 'blob', 84, 0xa1, /BATCH/],
  ['a size that the device has not', 'blob', 97, 0xff, /uncompressed_size/],
  ['another id', 'blob', 0, 0x62, /not the id/],
  ['a chunk size that is no power of two', 'rafs', 20, 1, /chunk_size/],
  ['two compressors', 'rafs', 0, 0x96, /one compressor/],
  ['no digest', 'rafs', 0, 0x90, /one digest/],
  ['a table out of the file', 'rafs', 11, 0x7f, /blob_table/],
  ['chunk records out of the file', 'rafs', 36, 1, /chunk_table/],
];
for (const [what, where, at, value, message] of CHANGES) {
  test(`${what}: refused`, () => {
    const bytes = buildBootstrap(testImage());
    const table = Number(bytes.readBigUInt64LE(1152 + 24));
    const start = { address: smallAddress(bytes), record: table, blob: bytes.readUInt32LE(1152 + 8), rafs: 1152 };
    bytes[start[where] + at] = value;
    refused(bytes, message);
  });
}

/** Byte offset of the only chunk address of the file `small`: chunk 0 of blob 0 at block 0. */
function smallAddress(bytes: Buffer): number {
  const head = Buffer.from([9, 0, 0, 0, 0xa4, 0x81, 0, 0, 100, 0, 0, 0]);
  const at = bytes.indexOf(head);
  assert.notEqual(at, -1);
  assert.deepEqual([...bytes.subarray(at + 64, at + 72)], [0, 0, 1, 0, 0, 0, 0, 0]);
  return at + 64;
}

for (const [name, features, code] of [
  ['TARFS', 0x40, 'unsupported'],
  ['EXTERNAL', 0x800, 'unsupported'],
  ['0x9000', 0x9000, 'unsupported'],
  ['ZRAN without CHUNK_INFO_V2', 0x18, 'corrupt'],
  ['ZRAN without SEPARATE', 0xc, 'corrupt'],
  ['ZRAN and BATCH', 0x9c, 'corrupt'],
  ['SEPARATE and ENCRYPTED', 0x110, 'corrupt'],
  ['cipher', 0x100, 'corrupt'],
] as const) {
  test(`a blob with ${name} is refused by name`, () => {
    const spec = testImage();
    spec.blobs[0].features |= features;
    refused(buildBootstrap(spec), new RegExp(name), code);
  });
}

test('an image in tarfs mode is refused by name, and so is one without a chunk table', () => {
  const bytes = buildBootstrap(testImage());
  bytes[1152 + 1] |= 0x2;
  // As builders write it: blocks of 512 bytes.
  bytes[1024 + 12] = 9;
  refused(bytes, /TARFS/, 'unsupported');
  const without = buildBootstrap(testImage());
  without.writeBigUInt64LE(0n, 1152 + 32);
  refused(without, /without a chunk table/, 'unsupported');
});

test('ciphers and keys that cannot be are refused', () => {
  const encrypted = (change: (entry: Buffer) => void) => {
    const spec = testImage();
    spec.blobs[0].features |= 0x100;
    const bytes = buildBootstrap(spec);
    const at = bytes.readUInt32LE(1152 + 8);
    const entry = bytes.subarray(at, at + 256);
    entry.writeUInt32LE(1, 216);
    entry[168] = 1;
    change(entry);
    return bytes;
  };
  refused(
    encrypted((entry) => entry.writeUInt32LE(2, 216)),
    /cipher 2/,
    'unsupported',
  );
  refused(
    encrypted((entry) => entry.fill(7, 168, 200)),
    /key/,
    'corrupt',
  );
  refused(
    encrypted((entry) => entry.writeUInt32LE(entry.readUInt32LE(84) & ~0x100, 84)),
    /cipher/,
    'corrupt',
  );
  refused(
    encrypted(() => {}),
    /not encrypted/,
    'corrupt',
  );
});

test('unknown super-block flags are named', () => {
  const bytes = buildBootstrap(testImage());
  bytes[1152 + 1] = 0x11;
  refused(bytes, /0x1000$/, 'unsupported');
  bytes[1152 + 1] = 0x1;
  bytes[1152 + 4] = 2;
  refused(bytes, /0x200000000/, 'unsupported');
});

test('two chunks in the same stored bytes are refused', () => {
  const spec = testImage();
  spec.blobs[0].chunks[2].storedOffset = spec.blobs[0].chunks[1].storedOffset;
  refused(buildBootstrap(spec), /overlap/);
});

test('stored chunks may be in another order than their blob', () => {
  const spec = testImage();
  const [, second, third] = spec.blobs[0].chunks;
  [second.storedOffset, third.storedOffset] = [third.storedOffset, second.storedOffset];
  const { chunks, frames } = read(buildBootstrap(spec)).blobs[0];
  assert.deepEqual([...chunks.frame], [0, 2, 1, 3]);
  assert.deepEqual([...frames.offset], [0, 50, 4146, 8242]);
});

test('blobs from chunk dictionaries and of the optimizer are read like others', () => {
  const spec = testImage();
  const plain = read(buildBootstrap(spec));
  spec.blobs[0].features |= 0x200 | 0x400;
  assert.deepEqual(read(buildBootstrap(spec)), plain);
  // Such tables need not agree on the number of chunks.
  const more = ({ bytes, header }: ReturnType<typeof batchImage>, features: number) => {
    header.writeUInt32LE(2, 12);
    const at = bytes.readUInt32LE(1152 + 8) + 84;
    bytes.writeUInt32LE((bytes.readUInt32LE(at) | features) >>> 0, at);
  };
  assert.throws(() => readBatch((parts) => more(parts, 0)), { code: 'corrupt', message: /ci_entries/ });
  // Then only the chunk that is beyond them is missed.
  assert.throws(() => readBatch((parts) => more(parts, 0x200)), { code: 'corrupt', message: /chunk 2 of 2/ });
});

/** A batch blob: chunks 0 and 2 in a batch at 100, chunk 1 alone at 0. With its chunk information. */
function batchImage() {
  const batch = blob('a', [100, CHUNK, 50], 0x700000a5);
  Object.assign(batch.chunks[0], { stored: 0, compressed: false, storedOffset: 0 });
  Object.assign(batch.chunks[1], { stored: 100, storedOffset: 0 });
  Object.assign(batch.chunks[2], { stored: 0, compressed: false, storedOffset: 0 });
  const bytes = buildBootstrap({
    root: { name: '', mode: DIR, children: [{ name: 'f', mode: FILE, size: 50, chunks: [[0, 2]] }] },
    chunkSize: CHUNK,
    blobs: [batch],
  });
  const array = Buffer.alloc(3 * 24 + 40);
  const entry = (i: number, words: [bigint, bigint, bigint]) => {
    words.forEach((word, k) => {
      array.writeBigUInt64LE(word, i * 24 + k * 8);
    });
  };
  entry(0, [(99n << 32n) | (5n << 56n), 100n, 0n]);
  entry(1, [1n | (BigInt(CHUNK - 1) << 32n) | (1n << 56n), 100n << 40n, 0n]);
  entry(2, [3n | (49n << 32n) | (5n << 56n), 100n, 100n]);
  array.writeUInt32LE(70, 72);
  array.writeUInt32LE(150, 76);
  const stored = zstdCompressSync(array);
  const header = Buffer.alloc(4096);
  const table = bytes.readUInt32LE(1152 + 8);
  const offset = 1000;
  header.writeUInt32LE(0xb10bb10b, 0);
  header.writeUInt32LE(0xb10bb10b, 4092);
  header.writeUInt32LE(3, 8);
  header.writeUInt32LE(3, 12);
  for (const [at, value] of [
    [16, offset],
    [24, stored.length],
    [32, array.length],
    [40, 72],
    [48, 40],
  ]) {
    header.writeBigUInt64LE(BigInt(value), at);
  }
  header.writeUInt32LE(1, 56);
  bytes.writeUInt32LE(3, table + 108);
  bytes.writeBigUInt64LE(BigInt(offset), table + 112);
  bytes.writeBigUInt64LE(BigInt(stored.length), table + 120);
  bytes.writeBigUInt64LE(BigInt(array.length), table + 128);
  return { bytes, array, header, stored };
}

function readBatch(change?: (parts: ReturnType<typeof batchImage>) => void): Image {
  const parts = batchImage();
  change?.(parts);
  const bootstrap = openBootstrap(parts.bytes);
  const [entry] = bootstrap.blobs;
  const padding = Buffer.alloc(4096 - parts.array.length);
  const info = chunkInfoFromMeta(entry, Buffer.concat([parts.array, padding, parts.header]));
  const { image } = readImage(bootstrap, { chunkInfo: new Map([[entry.id, info]]) });
  checkImage(image);
  return image;
}

test('a batch is one frame', () => {
  const { chunks, frames } = readBatch().blobs[0];
  assert.deepEqual([...chunks.frame], [1, 0, 1]);
  assert.deepEqual([...chunks.frameOffset], [0, 0, 100]);
  assert.deepEqual(
    [[...frames.offset], [...frames.size], [...frames.decodedSize], [...frames.codec]],
    [
      [0, 100],
      [100, 70],
      [CHUNK, 150],
      [3, 3],
    ],
  );
});

test('chunk information from the blob is decoded and held against the blob table', () => {
  const { bytes, stored, header } = batchImage();
  const [entry] = openBootstrap(bytes).blobs;
  assert.deepEqual(chunkInfoRange(entry), { id: entry.id, offset: 1000, length: stored.length + 4096 });
  assert.equal(chunkInfoFromBlob(entry, Buffer.concat([stored, header])).count, 3);
  assert.throws(() => chunkInfoFromBlob(entry, stored), { code: 'corrupt' });
  const huge = { ...entry, chunkInfo: { ...entry.chunkInfo, uncompressedSize: 2 ** 40 } };
  assert.throws(() => chunkInfoRange(huge), { code: 'unsupported' });
  const short = { ...entry, chunkInfo: { ...entry.chunkInfo, uncompressedSize: 111 } };
  assert.throws(() => chunkInfoFromBlob(short, Buffer.concat([stored, header])), { code: 'corrupt' });
});

test('chunk information that contradicts the bootstrap or itself is refused', () => {
  type Parts = ReturnType<typeof batchImage>;
  const changes: [string, (parts: Parts) => void, string?][] = [
    ['header magic', ({ header }) => header.writeUInt32LE(0, 0)],
    ['last magic', ({ header }) => header.writeUInt32LE(0, 4092)],
    ['compressor', ({ header }) => header.writeUInt32LE(1, 8)],
    ['entries', ({ header }) => header.writeUInt32LE(2, 12)],
    ['offset', ({ header }) => header.writeUInt32LE(1, 16)],
    ['stored size', ({ header }) => header.writeUInt32LE(1, 24)],
    ['size', ({ header }) => header.writeUInt32LE(1, 32)],
    ['contexts outside', ({ header }) => header.writeUInt32LE(100, 40)],
    ['too many contexts', ({ header }) => header.writeUInt32LE(0xffffffff, 56)],
    ['no context', ({ header }) => header.writeUInt32LE(0, 56)],
    ['place of a chunk', ({ array }) => array.writeUInt32LE(2, 24)],
    ['size of a chunk', ({ array }) => array.writeUInt32LE(7, 28)],
    ['stored place', ({ array }) => array.writeUInt32LE(7, 24 + 8)],
    ['members apart', ({ array }) => array.writeUInt32LE(101, 48 + 8)],
    ['batch index', ({ array }) => array.writeUInt32LE(1, 48 + 20)],
    ['out of the batch', ({ array }) => array.writeUInt32LE(101, 48 + 16)],
    ['batch above a chunk', ({ array }) => array.writeUInt32LE(CHUNK + 1, 76)],
    ['batch of nothing', ({ array }) => array.writeUInt32LE(0, 72)],
    ['ZRAN chunk', ({ array }) => array.writeUInt8(7, 7), 'unsupported'],
  ];
  for (const [what, change, code = 'corrupt'] of changes) {
    assert.throws(() => readBatch(change), { name: 'NymphError', code }, what);
  }
});

/** Reads changed bytes: a NymphError or a whole image, nothing else. Returns whether it was refused. */
function survives(bytes: Uint8Array): boolean {
  try {
    read(bytes);
    return false;
  } catch (error) {
    if (error instanceof NymphError) return true;
    throw error;
  }
}

function appBootstrap(): Uint8Array {
  const layer = 'e8eba9c07b937ea1aa52b18bb1ace9dd31b8060b211258713864c17885752608';
  return unpackBootstrapLayer(readFileSync(join(APP_LAYOUT, 'blobs', 'sha256', layer)), 1 << 26).bootstrap;
}

test('random changes of a bootstrap give an error of ours or a valid image', (t) => {
  const random = randomSeries(20260711);
  const int = (limit: number) => Math.floor(random() * limit);
  let refusals = 0;
  let runs = 0;
  for (const original of [appBootstrap(), buildBootstrap(testImage())]) {
    const bytes = Buffer.alloc(original.length);
    for (let run = 0; run < 3000; run++, runs++) {
      bytes.set(original);
      // Half of the changes go to the super-blocks and tables in the front, where they do most.
      for (let change = 1 + int(3); change > 0; change--) {
        const at = random() < 0.5 ? 1024 + int(1024) : int(bytes.length);
        bytes[at] = random() < 0.3 ? [0, 1, 0x7f, 0x80, 0xff][int(5)] : int(256);
      }
      if (survives(bytes)) refusals++;
    }
  }
  t.diagnostic(`${refusals} of ${runs} refused`);
  assert.ok(refusals > runs / 10 && refusals < runs, `${refusals} of ${runs} refused`);
});

test('whole words changed to edge values, and blocks cut or swapped, do no harm', () => {
  const random = randomSeries(7);
  const int = (limit: number) => Math.floor(random() * limit);
  const edges = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffff000];
  const original = appBootstrap();
  for (let run = 0; run < 2000; run++) {
    const bytes = Buffer.from(original);
    const at = random() < 0.5 ? 1024 + int(256) * 4 : int(bytes.length / 4) * 4;
    bytes.writeUInt32LE(edges[int(edges.length)], at);
    if (run % 4 === 0) bytes.copyWithin(int(bytes.length), int(bytes.length), bytes.length);
    survives(run % 8 === 1 ? bytes.subarray(0, int(15) * 4096) : bytes);
  }
});

test('a bootstrap of 56,000 files is read in a moment', (t) => {
  const sizes: number[] = [];
  const children: TestNode[] = [];
  for (let d = 0; d < 560; d++) {
    const files: TestNode[] = [];
    for (let f = 0; f < 100; f++) {
      files.push({ name: `file-with-a-usual-name-${f}.js`, mode: FILE, size: 5000, chunks: [[0, sizes.length]] });
      sizes.push(5000);
    }
    children.push({ name: `directory-${d}`, mode: DIR, children: files });
  }
  const bytes = buildBootstrap({
    root: { name: '', mode: DIR, children },
    chunkSize: CHUNK,
    blobs: [blob('a', sizes)],
  });
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 3; run++) {
    const start = performance.now();
    const image = readImage(openBootstrap(bytes)).image;
    best = Math.min(best, performance.now() - start);
    assert.equal(image.inodes, 56_561);
  }
  t.diagnostic(`${best.toFixed(0)} ms for ${bytes.length} bytes`);
  // Ten times what it takes: catches work that grows with the square, not a busy machine.
  assert.ok(best < 1500, `${best} ms`);
});
