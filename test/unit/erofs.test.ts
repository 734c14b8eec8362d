import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readInode } from '../../src/erofs/inode.ts';
import { openErofs } from '../../src/erofs/super-block.ts';
import { readSymlink, walkTree } from '../../src/erofs/walk.ts';
import { readXattrs } from '../../src/erofs/xattr.ts';
import { buildBootstrap, type TestImage, type TestNode } from './rafs-builder.ts';

const DIR = 0o040755;
const FILE = 0o100644;
const LINK = 0o120777;

const image = (children: TestNode[]): TestImage => ({
  root: { name: '', mode: DIR, children },
  chunkSize: 4096,
  blobs: [],
});

function paths(bytes: Uint8Array): string[] {
  const found: string[] = [];
  walkTree(openErofs(bytes), (visit) => found.push(visit.path().toString('latin1')));
  return found;
}

/** Byte offset of the inode at `path`. */
function inodeAt(bytes: Uint8Array, path: string): number {
  let at = -1;
  walkTree(openErofs(bytes), (visit) => {
    if (visit.path().toString() === path) at = visit.inode.offset;
  });
  assert.notEqual(at, -1);
  return at;
}

/** Where a name stands in the bytes. */
function nameAt(bytes: Buffer, name: string): number {
  const at = bytes.indexOf(name, 4096);
  assert.notEqual(at, -1);
  return at;
}

function refused(bytes: Uint8Array, message: RegExp): void {
  assert.throws(
    () => paths(bytes),
    (error: Error & { code: string }) => {
      assert.equal(error.name, 'NymphError', String(error.stack));
      assert.match(error.message, message);
      return true;
    },
  );
}

test('a tree is walked directory by directory, names sort by bytes, also below "."', () => {
  const sub: TestNode = {
    name: 'dir',
    mode: DIR,
    children: [
      { name: 'z', mode: FILE },
      { name: '!', mode: FILE },
    ],
  };
  const bytes = buildBootstrap(image([{ name: '+first', mode: FILE }, sub, { name: Buffer.from([0xff]), mode: FILE }]));
  assert.deepEqual(paths(bytes), ['/', '/+first', '/dir', '/\u00ff', '/dir/!', '/dir/z']);
});

test('directories of many blocks are read, and names of 255 bytes', () => {
  const children = Array.from({ length: 3000 }, (_, i) => ({ name: `f${i}`.padEnd(i % 256, 'x'), mode: FILE }));
  const found = paths(buildBootstrap(image(children)));
  assert.equal(found.length, 3001);
  assert.deepEqual(new Set(found), new Set(['/', ...children.map((c) => `/${c.name}`)]));
});

test('hard links are visited for each name, and counted as one inode', () => {
  const file: TestNode = { name: 'b', mode: FILE, nlink: 2 };
  const bytes = buildBootstrap(image([{ name: 'a', mode: 0, linkTo: file }, file]));
  const firsts: boolean[] = [];
  walkTree(openErofs(bytes), (visit) => firsts.push(visit.first));
  assert.deepEqual(firsts, [true, true, false]);
});

test('compact and extended inodes give what stat shows', () => {
  const bytes = buildBootstrap(
    image([
      { name: 'compact', mode: 0o104711, uid: 65535, gid: 7, nlink: 3, compact: true },
      { name: 'extended', mode: 0o100600, uid: 4294967294, gid: 70000, mtime: -5, mtimeNs: 999999999, nlink: 70000 },
    ]),
  );
  bytes.writeUInt32LE(1234, 1024 + 24);
  bytes.writeUInt32LE(99, 1024 + 32);
  const erofs = openErofs(bytes);
  const inode = (path: string) => readInode(erofs, (inodeAt(bytes, path) - erofs.metaOffset) / 32);
  const compact = inode('/compact');
  assert.deepEqual(
    [compact.mode, compact.uid, compact.gid, compact.nlink, compact.mtime, compact.mtimeNs],
    [0o104711, 65535, 7, 3, 1234, 99],
  );
  const extended = inode('/extended');
  assert.deepEqual(
    [extended.mode, extended.uid, extended.gid, extended.nlink, extended.mtime, extended.mtimeNs],
    [0o100600, 4294967294, 70000, 70000, -5, 999999999],
  );
});

test('symlinks are read inline and from a block of their own', () => {
  const long = Buffer.alloc(4096, 'x');
  const bytes = buildBootstrap(
    image([
      { name: 'a', mode: LINK, target: Buffer.from('../\xfe', 'latin1'), compact: true },
      { name: 'b', mode: LINK, target: long },
    ]),
  );
  const targets: Buffer[] = [];
  const erofs = openErofs(bytes);
  walkTree(erofs, (visit) => {
    if (visit.parent >= 0) targets.push(readSymlink(erofs, visit.inode));
  });
  assert.deepEqual(targets, [Buffer.from('../\xfe', 'latin1'), long]);
});

test('extended attributes are read with their full names', () => {
  const xattrs: TestNode['xattrs'] = [
    [1, 'empty', Buffer.alloc(0)],
    [2, '', Buffer.from([2, 0, 0, 0])],
    [4, 'overlay.opaque', Buffer.from('y')],
    [6, 'capability', Buffer.alloc(20, 1)],
  ];
  const bytes = buildBootstrap(image([{ name: 'f', mode: FILE, xattrs }]));
  const erofs = openErofs(bytes);
  const found = readXattrs(erofs, readInode(erofs, (inodeAt(bytes, '/f') - erofs.metaOffset) / 32));
  assert.deepEqual(
    found.map(({ name, value }) => [name.toString(), value.length]),
    [
      ['user.empty', 0],
      ['system.posix_acl_access', 4],
      ['trusted.overlay.opaque', 1],
      ['security.capability', 20],
    ],
  );
});

const SUPER_BLOCK_CHANGES: [field: string, at: number, value: number, message: RegExp][] = [
  ['magic', 0, 1, /magic/],
  ['checksum', 4, 1, /checksum/],
  ['feature_compat', 8, 1, /feature_compat.*0x1$/],
  ['block size', 12, 13, /blkszbits/],
  ['extension slots', 13, 1, /sb_extslots/],
  ['root', 14, 0xff, /inode|root/],
  ['nanoseconds', 35, 0xff, /build_time_nsec/],
  ['meta area', 42, 0xff, /meta_blkaddr/],
  ['shared xattrs', 44, 1, /xattr_blkaddr/],
  ['feature_incompat', 80, 0x8d, /feature_incompat.*0x81$/],
  ['compression', 84, 1, /lz4_max_distance/],
  ['devices', 86, 255, /extra_devices/],
  ['slot offset', 88, 12, /devt_slotoff/],
  ['directory blocks', 90, 1, /dirblkbits/],
  ['xattr prefixes', 91, 1, /xattr_prefix_count/],
];
for (const [field, at, value, message] of SUPER_BLOCK_CHANGES) {
  test(`a super-block with another ${field} is refused`, () => {
    const bytes = buildBootstrap(image([]));
    bytes[1024 + at] = value;
    refused(bytes, message);
  });
}

test('a device that hides part of the bootstrap is refused', () => {
  const blob = { id: 'a'.repeat(64), features: 1, compressor: 0, digester: 0 };
  const chunks = [{ size: 1, stored: 1, compressed: false, storedOffset: 0 }];
  const bytes = buildBootstrap({ ...image([]), blobs: [{ ...blob, chunks }] });
  paths(bytes);
  bytes.writeUInt32LE(bytes.length / 4096 - 1, 1408 + 68);
  refused(bytes, /mapped_blkaddr/);
  bytes.writeUInt32LE(0, 1408 + 68);
  paths(bytes);
  bytes.writeUInt32LE(0, 1408 + 64);
  refused(bytes, /blocks/);
});

test('a bootstrap that is cut is refused', () => {
  const bytes = buildBootstrap(image([{ name: 'a', mode: FILE }]));
  for (const length of [0, 1, 1024, 4095, 4097, bytes.length - 1]) refused(bytes.subarray(0, length), /size/);
});

const INODE_CHANGES: [what: string, at: number, value: number, message: RegExp][] = [
  ['an unknown format', 0, 0x15, /format/],
  ['a compressed layout', 0, 0x03, /layout/],
  ['chunks in a symlink', 0, 0x09, /no regular file/],
  ['too many xattrs', 3, 0xff, /xattr_icount/],
  ['no type', 5, 0, /mode/],
  ['upper address bits', 6, 1, /reserved/],
  ['a size above 2^53', 15, 1, /size/],
  ['a long target', 9, 0x20, /size|raw_blkaddr/],
  ['too many nanoseconds', 43, 0xff, /mtime_nsec/],
  ['no links', 44, 0, /nlink/],
  ['NUL in the target', 66, 0, /NUL/],
  ['no target', 8, 0, /symlink/],
];
for (const [what, at, value, message] of INODE_CHANGES) {
  test(`an inode with ${what} is refused`, () => {
    const bytes = buildBootstrap(image([{ name: 'link', mode: LINK, target: Buffer.from('target') }]));
    bytes[inodeAt(bytes, '/link') + at] = value;
    refused(bytes, message);
  });
}

test('names that a file system cannot have are refused', () => {
  const children = ['aa', 'bb', 'cc'].map((name) => ({ name, mode: FILE }));
  const change = (from: string, to: string) => {
    const bytes = buildBootstrap(image(children));
    bytes.write(to, nameAt(bytes, 'aabbcc') + 'aabbcc'.indexOf(from), 'latin1');
    return bytes;
  };
  paths(change('aa', 'ab'));
  refused(change('aa', 'a/'), /"\/" or NUL/);
  refused(change('aa', 'a\0'), /"\/" or NUL/);
  refused(change('bb', 'aa'), /ascending/);
  refused(change('bb', 'zz'), /ascending/);
  refused(change('cc', '\0\0'), /empty/);
  refused(change('aa', '..'), /ascending/);
  const long = buildBootstrap(image([{ name: 'n'.repeat(256), mode: FILE }]));
  refused(long, /longer than 255/);
});

test('"." and ".." must be there and lead to the right places', () => {
  const sub: TestNode = { name: 'dir', mode: DIR, children: [{ name: 'f', mode: FILE }] };
  const bytes = buildBootstrap(image([sub]));
  const entries = inodeAt(bytes, '/dir') + 64;
  for (const [entry, why] of [
    [0, /"\."/],
    [12, /"\.\."/],
  ] as const) {
    const changed = Buffer.from(bytes);
    changed[entries + entry] ^= 1;
    refused(changed, why);
  }
  const renamed = Buffer.from(bytes);
  renamed.write('.-', entries + 36 + 1);
  refused(renamed, /two names/);
  const empty = Buffer.from(bytes);
  empty[entries - 64 + 8] = 0;
  refused(empty, /missing/);
});

test('a type in a directory that is not the inode type is refused', () => {
  const bytes = buildBootstrap(image([{ name: 'file', mode: FILE }]));
  bytes[nameAt(bytes, '...file') - 36 + 24 + 10] = 7;
  refused(bytes, /file_type/);
});

test('directory loops are refused', () => {
  const root: TestNode = { name: '', mode: DIR, children: [] };
  root.children!.push({ name: 'loop', mode: 0, linkTo: root });
  refused(buildBootstrap({ root, chunkSize: 4096, blobs: [] }), /two names/);
  const dir: TestNode = { name: 'a', mode: DIR, children: [{ name: 'f', mode: FILE }] };
  refused(buildBootstrap(image([dir, { name: 'b', mode: 0, linkTo: dir }])), /two names/);
});

test('inodes that share their data to make endless work are refused', () => {
  const links = Array.from({ length: 100 }, (_, i) => ({ name: `l${i}`, mode: LINK, target: Buffer.from('x') }));
  const bytes = buildBootstrap(image([...links, { name: 'long', mode: LINK, target: Buffer.alloc(4096, 'x') }]));
  const long = inodeAt(bytes, '/long');
  const places = links.map(({ name }) => inodeAt(bytes, `/${name}`));
  for (const at of places) bytes.copyWithin(at, long, long + 64);
  refused(bytes, /more bytes than the bootstrap has/);
});

test('broken extended attributes are refused', () => {
  const build = () => buildBootstrap(image([{ name: 'f', mode: FILE, xattrs: [[1, 'name', Buffer.from('value')]] }]));
  const changes: [number, number, RegExp][] = [
    [4, 1, /shared_count/],
    [12, 200, /behind the area/],
    [13, 5, /name_index/],
    [13, 0x81, /name_index/],
    [15, 0xff, /behind the area/],
    [17, 0, /NUL/],
  ];
  for (const [at, value, message] of changes) {
    const bytes = build();
    bytes[inodeAt(bytes, '/f') + 64 + at] = value;
    refused(bytes, message);
  }
  const empty = build();
  empty[inodeAt(empty, '/f') + 2] = 1;
  refused(empty, /an empty area/);
});
