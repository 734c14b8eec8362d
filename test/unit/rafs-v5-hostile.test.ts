import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { digestOf } from '../../src/codec/digest.ts';
import { NymphError } from '../../src/errors.ts';
import { openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import type { Image } from '../../src/image/image.ts';
import { FIXTURES } from '../fixtures.ts';
import { randomSeries } from '../manifest/read.ts';
import { noiseBytes } from '../tree.ts';
import { checkImage, rowsOf } from './rafs-reading.ts';
import { buildV5, type ImageV5, type NodeV5, type OptionsV5 } from './rafs-v5-builder.ts';

const FILE = 0o100644;
const DIR = 0o040755;
const CHUNK = 8192;

const content = noiseBytes(3 * CHUNK - 5, 1);
const small: NodeV5 = { name: 'small', mode: FILE, content: noiseBytes(100, 2) };
const large: NodeV5 = { name: 'large', mode: FILE, content };
const hollow: NodeV5 = { name: 'hollow', mode: FILE, content: Buffer.alloc(CHUNK + 9), holes: [0] };
const link: NodeV5 = { name: 'link', mode: 0o120777, target: Buffer.from('sub/large') };
const hard: NodeV5 = { name: 'hard', mode: FILE, linkTo: small };
const attributes: NodeV5 = { name: 'x', mode: FILE, xattrs: [['user.name', Buffer.from('value')]] };
const sub: NodeV5 = { name: 'sub', mode: DIR, children: [large, hard, hollow] };
const other: NodeV5 = { name: 'other', mode: DIR, children: [{ name: 'twin', mode: FILE, content, blob: 1 }] };
const device: NodeV5 = { name: 'device', mode: 0o020600, rdev: 0x105 };
const root: NodeV5 = { name: '/', mode: DIR, children: [small, link, sub, other, attributes, device] };

const make = (options: OptionsV5 = {}) => buildV5(root, { chunkSize: CHUNK, ...options });

function read(bytes: Uint8Array): Image {
  const { image } = readImage(openBootstrap(bytes));
  checkImage(image);
  return image;
}

/** @param harm changes the image; places are byte offsets */
function refused(name: string, harm: (image: ImageV5) => void, message: RegExp, code = 'corrupt', options?: OptionsV5) {
  test(name, () => {
    const image = make(options);
    read(image.bootstrap);
    harm(image);
    assert.throws(
      () => read(image.bootstrap),
      (error: NymphError) => {
        assert.ok(error instanceof NymphError, String(error));
        assert.match(error.message, message);
        assert.equal(error.code, code);
        return true;
      },
    );
  });
}

/** Writes a field of an inode record. */
const u32 = (node: NodeV5, field: number, value: number) => (image: ImageV5) =>
  void image.bootstrap.writeUInt32LE(value, image.place(node).at + field);
const u64 = (node: NodeV5, field: number, value: bigint) => (image: ImageV5) =>
  void image.bootstrap.writeBigUInt64LE(value, image.place(node).at + field);
/** Writes a field of the super-block. */
const sb = (field: number, value: number) => (image: ImageV5) => void image.bootstrap.writeUInt32LE(value, field);
/** Writes a field of chunk record `k` of a file. */
const chunk = (node: NodeV5, k: number, field: number, value: number) => (image: ImageV5) =>
  void image.bootstrap.writeUInt32LE(value, image.place(node).chunks + k * 80 + field);
const both =
  (...all: ((image: ImageV5) => void)[]) =>
  (image: ImageV5) => {
    for (const one of all) one(image);
  };
/** Makes the digest of a directory right again, and of the root. */
const sign =
  (...nodes: NodeV5[]) =>
  (image: ImageV5) => {
    for (const node of [...nodes, root]) {
      const at = image.place(node).at;
      const first = image.bootstrap.readUInt32LE(at + 92);
      const count = image.bootstrap.readUInt32LE(at + 96);
      const digests = Array.from({ length: count }, (_, i) => {
        const record = image.bootstrap.readUInt32LE(8192 + (first - 1 + i) * 4) * 8;
        return image.bootstrap.subarray(record, record + 32);
      });
      image.bootstrap.set(digestOf('blake3', Buffer.concat(digests)), at);
    }
  };
const extended = (field: number, value: number) => (image: ImageV5) =>
  void image.bootstrap.writeUInt32LE(value, Number(image.bootstrap.readBigUInt64LE(72)) + field);

// The super-block.
refused('v4 is named', sb(4, 0x400), /RAFS v4/, 'unsupported');
refused('an unknown version is named', sb(4, 0x600), /0x600/, 'unsupported');
refused('another size of the super-block', sb(8, 4096), /sb_size/);
refused('a chunk size that is no power of two', sb(12, 12288), /chunk_size/);
refused('a chunk size of 64 MiB', sb(12, 1 << 26), /chunk_size/);
refused('unknown flags are named', sb(16, 0x400 | 0xb4), /0x400/, 'unsupported');
refused('flags above 32 bits are named', sb(20, 1), /0x100000000/, 'unsupported');
refused('TARFS mode is named', sb(16, 0x200 | 0xb4), /TARFS/, 'unsupported');
refused('encryption is named', sb(16, 0x02000000 | 0xb4), /ENCRYPTED/, 'unsupported');
refused('two compressors', sb(16, 0xb6), /compressor/);
refused('no digest', sb(16, 0xb0), /digest/);
refused('no inodes', sb(24, 0), /inodes_count/);
refused('more inodes than entries', sb(24, 100), /inodes_count/);
refused('2^32 - 1 entries in the inode table', sb(56, 0xffffffff), /inode_table_offset/);
refused('more entries in the inode table than records fit', sb(56, 200), /inode_table_entries/);
refused('an inode table without entries', both(sb(56, 0), sb(24, 0)), /inodes_count/);
for (const [field, name] of [
  [32, 'inode_table'],
  [40, 'prefetch_table'],
  [48, 'blob_table'],
  [72, 'extended_blob_table'],
] as const)
  for (const value of [0, 8191, 0x7ffffff8, 0xfffffff8])
    refused(`${name} at ${value}`, sb(field, value), new RegExp(name), 'corrupt', { prefetch: [small] });
refused('2^32 - 1 entries to prefetch', sb(60, 0xffffffff), /prefetch_table/, 'corrupt', { prefetch: [small] });
refused('a blob table of 4 GiB', sb(64, 0xffffffff), /blob_table/);
refused('extended entries for other blobs', sb(68, 1), /extended blob table/);

// Blobs.
refused(
  'a blob twice',
  (image) => {
    const at = Number(image.bootstrap.readBigUInt64LE(48));
    image.bootstrap.copy(image.bootstrap, at + 8 + 64 + 1 + 8, at + 8, at + 8 + 64);
  },
  /twice/,
);
refused(
  'a blob id that is a path',
  (image) => image.bootstrap.write('../../etc', Number(image.bootstrap.readBigUInt64LE(48)) + 8, 'latin1'),
  /blob_id.*\.\.\/\.\.\/etc/,
);
for (const [bit, name] of [
  [0x8, 'ZRAN'],
  [0x10, 'SEPARATE'],
  [0x40, 'TARFS'],
  [0x80, 'BATCH'],
  [0x100, 'ENCRYPTED'],
  [0x800, 'EXTERNAL'],
  [0x9000, '0x9000'],
] as const)
  refused(`a blob with ${name}`, extended(4, bit), new RegExp(`RAFS v5 blob .*${name}`), 'unsupported');
refused('a feature that is never stored', extended(4, 0x80000000), /features/);
refused('2^32 - 1 chunks in a blob', extended(0, 0xffffffff), /chunk_count/);
refused('a blob of 2^53 bytes', extended(12, 0x200000), /uncompressed_size/);
refused(
  'a blob of 2^44 bytes is too large for block addresses',
  both(extended(8, 0xfffff000), extended(12, 4095)),
  /16 TiB/,
  'unsupported',
);
refused('a stored blob of 2^41 bytes', extended(20, 0x200), /compressed_size/);
refused('stored bytes that hold no tar header', both(extended(4, 0x10000000), extended(16, 100)), /tar header/);
refused('chunks behind the end of a blob', extended(8, 3 * CHUNK), /uncompressed_offset/);
refused('chunks behind the stored end of a blob', extended(16, 5), /compressed_offset/);
refused('chunks that are not aligned, though the blob says so', extended(4, 1), /aligned/);
test('legacy eStargz is refused by name', () => {
  const image = make({ codec: 'gzip' });
  read(image.bootstrap);
  extended(4, 0)(image);
  assert.throws(() => read(image.bootstrap), { code: 'unsupported', message: /eStargz/ });
  assert.throws(() => read(make({ codec: 'gzip', extended: false }).bootstrap), { message: /eStargz/ });
});

// Inodes.
refused('a record outside of the bootstrap', sb(8192 + 4, 0x0fffffff), /outside/);
refused('a record within the super-block', sb(8192 + 4, 100), /inode table/);
refused('the layout without owners is named', u32(root, 60, 0), /owners/, 'unsupported');
refused('a root that is a file', both(u32(root, 60, FILE), u32(root, 96, 0)), /root|digest/);
refused('a mode of no type', u32(small, 60, 0o170644), /mode/);
refused('a mode above 16 bits', u32(small, 60, 0x10000 | FILE), /mode/);
refused('unknown flags of an inode are named', u32(small, 80, 0x10), /0x10/, 'unsupported');
refused('a symlink without its flag', u32(link, 80, 0), /symlink/);
refused('a file with the flag of symlinks', u32(small, 80, 1), /symlink/);
refused('no links', u32(small, 88, 0), /nlink/);
refused('a second of nanoseconds', u32(small, 108, 1e9), /mtime_nsec/);
refused('a time beyond 2^53', u64(small, 112, 2n ** 60n), /mtime/);
refused('a size beyond 2^53', u64(small, 64, 2n ** 60n), /size/);
refused('a size that needs more chunks', u64(small, 64, BigInt(CHUNK + 1)), /child_count/);
refused('a size that the chunks do not have', u64(large, 64, BigInt(3 * CHUNK - 4)), /uncompressed_size/);
refused('2^32 - 1 chunks', u32(small, 96, 0xffffffff), /child_count/);
refused('a device with children', u32(device, 96, 1), /child_count/);
refused('a name without bytes', u32(small, 100, 0), /name_size/);
refused('a name of 256 bytes', u32(small, 100, 256), /name_size/);
refused(
  'a target of no bytes',
  (image) => image.bootstrap.writeUInt16LE(0, image.place(link).at + 102),
  /symlink_size/,
);
refused(
  'a target of 4097 bytes',
  (image) => image.bootstrap.writeUInt16LE(4097, image.place(link).at + 102),
  /symlink_size/,
);
refused('a target on a file', (image) => image.bootstrap.writeUInt16LE(8, image.place(small).at + 102), /symlink_size/);

// The tree.
for (const [name, bad] of [
  ['a slash', 'sma/l'],
  ['NUL', 'sma\0l'],
] as const)
  refused(
    `a name with ${name}`,
    (image) => image.bootstrap.write(bad, image.place(small).at + 128, 'latin1'),
    /name at byte/,
  );
for (const bad of ['.', '..'])
  refused(
    `a child with the name ${bad}`,
    (image) => {
      const { at } = image.place(device);
      image.bootstrap.writeUInt16LE(bad.length, at + 100);
      image.bootstrap.write(bad, at + 128, 'latin1');
    },
    /"\." or "\.\."/,
  );
refused(
  'names that are not sorted',
  (image) => image.bootstrap.write('zzzzz', image.place(other).at + 128, 'latin1'),
  /ascending/,
);
refused(
  'a name twice',
  (image) =>
    image.bootstrap.write('link', image.place(device).at + 128, 'latin1') &&
    image.bootstrap.writeUInt16LE(4, image.place(device).at + 100),
  /ascending/,
);
refused('children behind the table', u32(sub, 92, 1000), /child_index/);
refused('2^32 - 1 children', u32(sub, 96, 0xffffffff), /child_index/);
refused('2^31 children', u32(sub, 96, 0x80000000), /child_index/);
refused('the root as a child', u32(sub, 92, 1), /child_index/);
refused(
  'a directory that contains itself',
  (image) => image.bootstrap.writeUInt32LE(image.place(sub).index, image.place(sub).at + 92),
  /two directories/,
);
refused(
  'children of another directory',
  (image) => image.bootstrap.writeUInt32LE(image.place(large).index - 1, image.place(other).at + 92),
  /two directories|digest|ascending/,
);
refused(
  'a directory as hard link',
  (image) => u64(other, 40, image.bootstrap.readBigUInt64LE(image.place(sub).at + 40))(image),
  /hard link/,
);
for (const [field, name, value] of [
  [48, 'uid', 5],
  [60, 'mode', 0o100600],
  [88, 'nlink', 7],
  [112, 'mtime', 9],
] as const)
  refused(`a hard link with another ${name}`, u32(hard, field, value), /hard link/);
refused('a hard link with another chunk', chunk(hard, 0, 48, 1), /hard link/);
refused(
  'a record that two positions share',
  (image) => image.bootstrap.copy(image.bootstrap, 8192 + (image.place(large).index - 1) * 4, 8192, 8196),
  /hard link|two directories|claim|ascending/,
);
refused(
  'prefetch of an inode outside of the tree',
  (image) => image.bootstrap.writeUInt32LE(77, Number(image.bootstrap.readBigUInt64LE(40))),
  /prefetch/,
  'corrupt',
  { prefetch: [small] },
);

// Digests.
for (const [name, node] of Object.entries({ root, sub, small, link, device, hollow })) {
  const reSigned = node === large || node === hollow ? sign(sub) : sign();
  refused(
    `a wrong digest of ${name}`,
    (image) => {
      image.bootstrap[image.place(node).at] ^= 1;
      if (node !== root) reSigned(image);
    },
    /inode \d+ has another blake3 digest|hard link/,
  );
}
refused('another target', (image) => image.bootstrap.write('S', image.place(link).at + 128 + 8), /digest/);
refused('another digest of a chunk', chunk(large, 0, 0, 7), /digest/);
refused(
  'children in another order',
  both((image) => {
    const [a, b] = [image.place(small), image.place(link)].map(({ index }) => 8192 + (index - 1) * 4);
    const saved = image.bootstrap.readUInt32LE(a);
    image.bootstrap.writeUInt32LE(image.bootstrap.readUInt32LE(b), a);
    image.bootstrap.writeUInt32LE(saved, b);
  }),
  /ascending|digest/,
);
test('a wrong digest names the inode, the field and the place', () => {
  const image = make();
  const { at, index } = image.place(link);
  image.bootstrap[at] ^= 1;
  assert.throws(() => read(image.bootstrap), { message: new RegExp(`digest at byte ${at}: inode ${index} `) });
});
test('a chunk without a digest makes the image unverifiable', () => {
  const image = make();
  const { at, chunks } = image.place(small);
  for (const place of [image.place(small), image.place(hard)]) {
    image.bootstrap.fill(0, place.chunks, place.chunks + 32);
    image.bootstrap.set(digestOf('blake3', Buffer.alloc(32)), place.at);
  }
  assert.ok(chunks > at);
  sign(sub)(image);
  assert.equal(read(image.bootstrap).verifiable, false);
});

// Attributes.
const xattrs = (image: ImageV5) => image.place(attributes).at + 128 + 8;
refused(
  'attributes behind the bootstrap',
  (image) => image.bootstrap.writeUInt32LE(1 << 20, xattrs(image)),
  /xattr|fit/,
);
refused('2^53 bytes of attributes', (image) => image.bootstrap.writeUInt32LE(1 << 21, xattrs(image) + 4), /xattr/);
refused('an attribute behind the others', (image) => image.bootstrap.writeUInt32LE(100, xattrs(image) + 8), /length/);
refused('three bytes of an attribute', (image) => image.bootstrap.writeUInt32LE(3, xattrs(image)), /length/);
refused('an attribute without a name', (image) => image.bootstrap.writeUInt8(0, xattrs(image) + 12), /name/);
refused(
  'an attribute without an end of its name',
  (image) => image.bootstrap.write('_', xattrs(image) + 21, 'latin1'),
  /name/,
);
for (const [name, value] of [
  ['system.nfs4_acl', Buffer.alloc(4)],
  ['com.example', Buffer.alloc(4)],
  [`user.${'n'.repeat(256)}`, Buffer.alloc(4)],
  ['user.large', Buffer.alloc(65536)],
] as const)
  test(`an attribute that EROFS cannot hold is named with its file: ${name.slice(0, 20)}`, () => {
    const file: NodeV5 = { name: 'f', mode: FILE, xattrs: [[name, value]] };
    const image = buildV5({ name: '/', mode: DIR, children: [{ name: 'd', mode: DIR, children: [file] }] });
    assert.throws(() => read(image.bootstrap), { code: 'unsupported', message: /".*" \(\d+ bytes\) of "\/d\/f"/ });
  });
test('an attribute twice', () => {
  const pair: [string, Buffer] = ['user.a', Buffer.alloc(1)];
  const file: NodeV5 = { name: 'f', mode: FILE, xattrs: [pair, pair] };
  assert.throws(() => read(buildV5({ name: '/', mode: DIR, children: [file] }).bootstrap), { message: /twice/ });
});

// Chunks.
refused('an encrypted chunk is named', chunk(large, 0, 36, 4), /encrypted/, 'unsupported');
refused('a chunk of a batch is named', chunk(large, 0, 36, 8), /batch/, 'unsupported');
refused('unknown flags of a chunk are named', chunk(large, 0, 36, 0x40), /0x40/, 'unsupported');
refused('content that calls itself a hole', chunk(large, 1, 36, 2), /hole/);
refused('a chunk of another blob', chunk(large, 0, 32, 2), /blob_index/);
refused('a chunk at another place of its file', chunk(large, 1, 64, 0), /file_offset/);
refused('a chunk of another size', chunk(large, 1, 44, CHUNK - 1), /uncompressed_size/);
refused('a chunk of 2^32 - 1 bytes', chunk(large, 1, 44, 0xffffffff), /uncompressed_size/);
refused('a chunk beyond its blob', chunk(large, 1, 60, 1), /uncompressed_offset/);
refused('chunks that overlap', chunk(large, 1, 56, 150), /uncompressed_offset/);
refused('no stored bytes', chunk(large, 1, 40, 0), /compressed_size/);
refused('stored chunks that overlap', chunk(large, 1, 48, 3), /compressed_offset/);
refused(
  'a place that two chunks claim',
  (image) => {
    const { chunks } = image.place(large);
    image.bootstrap.copy(image.bootstrap, chunks + 80 + 56, chunks + 56, chunks + 64);
  },
  /another one/,
);
refused('a compressed chunk of an image that is not', chunk(large, 1, 36, 1), /flags/, 'corrupt', { codec: 'none' });

test('files that share one record of 2^20 chunks are no work without end', () => {
  // 2,000 positions of the table lead to one long record.
  const file: NodeV5 = { name: 'f', mode: FILE, content: Buffer.alloc(4096 * 3000, 'x') };
  const names = Array.from({ length: 2000 }, (_, i) => ({
    name: `d${i + 1000}`,
    mode: DIR,
    children: [{ name: 'f', mode: FILE }],
  }));
  const image = buildV5({ name: '/', mode: DIR, children: [file, ...names] }, { chunkSize: 4096 });
  for (const { children } of names)
    image.bootstrap.writeUInt32LE(image.place(file).at / 8, 8192 + (image.place(children[0]).index - 1) * 4);
  assert.throws(() => read(image.bootstrap), { code: 'corrupt', message: /claim more bytes|digest/ });
});

const originals = [
  make({ prefetch: [small, sub] }),
  make({ aligned: true, alignedFlag: true, digester: 'sha256', codec: 'none' }),
  make({ extended: false, numbered: false }),
];

/** @returns the error, if the bytes were refused */
function survives(bytes: Buffer): Image | NymphError {
  try {
    return read(bytes);
  } catch (error) {
    assert.ok(error instanceof NymphError, String((error as Error).stack));
    assert.ok(error.code === 'corrupt' || error.code === 'unsupported', error.message);
    return error;
  }
}

test('random changes give an error of ours, or an image that shows no other content', (t) => {
  const random = randomSeries(20260712);
  const int = (limit: number) => Math.floor(random() * limit);
  const contents = (image: ImageV5, bytes: Buffer): Map<string, unknown> => {
    const bootstrap = openBootstrap(bytes);
    const rows = rowsOf(bootstrap, readImage(bootstrap).image, (id, offset, length) => {
      const object = image.blobs.get(id);
      if (object === undefined || offset + length > object.length) throw new Error('no such bytes');
      return object.subarray(offset, offset + length);
    });
    return new Map(
      [...rows.values()].filter(({ sha256 }) => sha256).map(({ path, sha256 }) => [JSON.stringify(path), sha256]),
    );
  };
  let refusals = 0;
  let runs = 0;
  let compared = 0;
  for (const original of originals) {
    const truth = new Set(contents(original, original.bootstrap).values());
    const bytes = Buffer.alloc(original.bootstrap.length);
    for (let run = 0; run < 2000; run++, runs++) {
      original.bootstrap.copy(bytes);
      for (let change = 1 + int(2); change > 0; change--) {
        const at = random() < 0.1 ? int(128) : 8192 + int(bytes.length - 8192);
        bytes[at] = random() < 0.3 ? [0, 1, 0x7f, 0x80, 0xff][int(5)] : int(256);
      }
      if (survives(bytes) instanceof NymphError) {
        refusals++;
        continue;
      }
      try {
        for (const digest of contents(original, bytes).values()) assert.ok(truth.has(digest), `run ${run}`);
        compared++;
      } catch (error) {
        // What leads to wrong bytes ends at their digest.
        if (error instanceof assert.AssertionError) throw error;
      }
    }
  }
  t.diagnostic(`${refusals} of ${runs} refused, ${compared} compared`);
  assert.ok(refusals > runs / 10 && compared > runs / 20);
});

test('whole words changed to edge values, and parts cut or moved, do no harm', () => {
  const random = randomSeries(8);
  const int = (limit: number) => Math.floor(random() * limit);
  const edges = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0xfffffff8];
  const app = zstdDecompressSync(readFileSync(join(FIXTURES, 'app-v5.boot.zst')));
  for (const original of [app, ...originals.map(({ bootstrap }) => bootstrap)])
    for (let run = 0; run < 1000; run++) {
      const bytes = Buffer.from(original);
      const at = random() < 0.3 ? int(20) * 4 : 8192 + int((bytes.length - 8192) / 4) * 4;
      bytes.writeUInt32LE(edges[int(edges.length)], at);
      if (run % 4 === 0) bytes.copyWithin(int(bytes.length), int(bytes.length), bytes.length);
      survives(run % 8 === 1 ? bytes.subarray(0, int(bytes.length)) : bytes);
    }
});

test('an image of more names than fit in memory is refused before it is read', () => {
  const bytes = Buffer.alloc(750_001 * (128 + 4) + 8192);
  make().bootstrap.copy(bytes, 0, 0, 8192);
  bytes.writeUInt32LE(750_001, 56);
  // No blobs.
  bytes.writeUInt32LE(0, 64);
  bytes.writeUInt32LE(0, 68);
  assert.throws(() => read(bytes), { code: 'unsupported', message: /750001 names/ });
});

refused('an inode number that is no position', u64(small, 40, 1000n), /ino at byte/);
refused('an inode number of 0', u64(small, 40, 0n), /ino at byte/);

test('a bootstrap of 56,000 files is read in a moment', (t) => {
  const directories = Array.from({ length: 560 }, (_, d) => ({
    name: `directory-${d}`,
    mode: DIR,
    children: Array.from({ length: 100 }, (_, f) => ({
      name: `file-with-a-usual-name-${f}.js`,
      mode: FILE,
      content: Buffer.from(`${d} ${f}`.repeat(3)),
    })),
  }));
  const { bootstrap } = buildV5({ name: '/', mode: DIR, children: directories }, { codec: 'none' });
  let best = Number.POSITIVE_INFINITY;
  for (let run = 0; run < 3; run++) {
    const start = performance.now();
    assert.equal(read(bootstrap).inodes, 56_561);
    best = Math.min(best, performance.now() - start);
  }
  t.diagnostic(`${best.toFixed(0)} ms for ${bootstrap.length} bytes`);
  // Far more than it takes: catches work that grows with the square, not a busy machine.
  assert.ok(best < 20_000, `${best} ms`);
});
