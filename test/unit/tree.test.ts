/** A tree as FUSE threads answer for it: from a bootstrap file that is read in as far as it is asked for. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FIRST_RANGE } from '../../src/cache/cache.ts';
import { closeReadyMap, countReady, createReadyMap, type ReadyMap } from '../../src/cache/ready-map.ts';
import type { Attributes } from '../../src/fuse/driver.ts';
import { createForest } from '../../src/fuse/forest.ts';
import { openTree, type Tree } from '../../src/fuse/tree.ts';
import { buildBootstrap, type TestImage, type TestNode } from './rafs-builder.ts';

const DIR = 0o040755;
const FILE = 0o100640;
const CHUNK = 4096;
const BLOBS = [2 ** 20 + 7, 2 ** 20 + 9];

interface Opened {
  tree: Tree;
  present: ReadyMap;
  data: Parameters<typeof openTree>[0];
}

function open(t: TestContext, bytes: Uint8Array): Opened {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-tree-'));
  writeFileSync(join(directory, 'bootstrap'), bytes);
  const fd = openSync(join(directory, 'bootstrap'), 'r');
  t.after(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  const present = createReadyMap(bytes.length);
  const data = {
    first: FIRST_RANGE,
    fd,
    bytes: new SharedArrayBuffer(bytes.length),
    present: present.words.buffer,
    blobs: BLOBS,
    isOfFiles: false,
  };
  return { tree: openTree(data), present, data };
}

const blob = (id: string, chunks: number) => ({
  id: id.repeat(64),
  features: 0,
  compressor: 0,
  digester: 0,
  chunks: Array.from({ length: chunks }, (_, i) => ({
    size: CHUNK,
    stored: CHUNK,
    compressed: false,
    storedOffset: i * CHUNK,
  })),
});

const image = (children: TestNode[]): TestImage => ({
  root: { name: '', mode: DIR, children },
  chunkSize: CHUNK,
  blobs: [blob('a', 4), blob('b', 4)],
});

function at(tree: Tree, path: string): Attributes {
  let found = tree.root();
  for (const name of path.split('/').filter(Boolean)) {
    const next = tree.lookup(found.ino, Buffer.from(name));
    assert.ok(typeof next === 'object', `${path}: no ${name}`);
    found = next;
  }
  return found;
}

/** Reads a directory as the kernel does, `most` entries at a time. */
function list(tree: Tree, ino: number, most: number): string[] {
  const names: string[] = [];
  for (let from = 0, more = true; more; ) {
    let taken = 0;
    assert.ok(
      tree.readdir(ino, from, ({ name, next }) => {
        if (taken === most) return false;
        taken++;
        assert.ok(next > from);
        from = next;
        names.push(Buffer.from(name).toString());
        return true;
      }),
    );
    more = taken > 0;
  }
  return names;
}

test('names of a directory of many blocks are found and listed, a few at a time; others will never be', (t) => {
  const names = Array.from({ length: 3000 }, (_, i) => `file-${String(i * 7919).padStart(9, '0')}`);
  const { tree } = open(t, buildBootstrap(image(names.map((name) => ({ name, mode: FILE })))));
  const root = tree.root().ino;
  const sorted = ['.', '..', ...names].sort();
  for (const most of [1000, 7]) assert.deepEqual(list(tree, root, most), sorted);
  const inodes = new Set(names.map((name) => at(tree, name).ino));
  assert.equal(inodes.size, names.length);
  for (const wrong of ['file', 'file-000000001', 'file-0000000000', 'a', 'z', '~'.repeat(255), 'file-000000000x'])
    assert.equal(tree.lookup(root, Buffer.from(wrong)), 'never', wrong);
  // A position that nobody gave out.
  tree.readdir(root, 4095, ({ name }) => {
    assert.ok(sorted.includes(Buffer.from(name).toString()));
    return false;
  });
  assert.ok(tree.readdir(root, 2 ** 40, () => assert.fail('there is nothing')));
});

test('attributes, links, targets and extended attributes are those of the bootstrap', (t) => {
  const node: TestNode = {
    name: 'a',
    mode: FILE,
    uid: 70000,
    gid: 70001,
    mtime: -5,
    mtimeNs: 123456789,
    nlink: 2,
    xattrs: [
      [1, 'note', Buffer.from('text')],
      [2, '', Buffer.from('\x02\0\0\0')],
      [6, 'capability', Buffer.alloc(20, 1)],
    ],
  };
  const { tree } = open(
    t,
    buildBootstrap(
      image([
        node,
        { name: 'b', mode: FILE, linkTo: node },
        { name: 'device', mode: 0o020600, rdev: 0x103 },
        { name: 'link', mode: 0o120777, target: Buffer.from('../else\xff', 'latin1') },
      ]),
    ),
  );
  const { ino, ...rest } = at(tree, 'a');
  assert.deepEqual(rest, {
    mode: FILE,
    nlink: 2,
    uid: 70000,
    gid: 70001,
    rdev: 0,
    size: 0,
    mtime: -5,
    mtimeNs: 123456789,
  });
  assert.equal(at(tree, 'b').ino, ino);
  assert.deepEqual(tree.getattr(ino), at(tree, 'b'));
  assert.equal(at(tree, 'device').rdev, 0x103);
  assert.deepEqual(tree.readlink!(at(tree, 'link').ino), Buffer.from('../else\xff', 'latin1'));
  assert.equal(tree.readlink!(ino), undefined);
  assert.equal(
    Buffer.from(tree.listxattr!(ino)!).toString(),
    'user.note\0system.posix_acl_access\0security.capability\0',
  );
  assert.equal(Buffer.from(tree.getxattr!(ino, Buffer.from('user.note'))!).toString(), 'text');
  assert.equal(tree.getxattr!(ino, Buffer.from('user.not')), undefined);
});

test('reads become extents of blobs: neighbours joined, cut where the file ends', (t) => {
  const chunks: [number, number][] = [
    [0, 1],
    [0, 2],
    [1, 0],
    [0, 0],
  ];
  const { tree } = open(
    t,
    buildBootstrap(image([{ name: 'f', mode: FILE, size: 3 * CHUNK + 10, chunks, kernelBits: 0 }])),
  );
  const { ino } = at(tree, 'f');
  const [a, b] = BLOBS;
  assert.deepEqual(tree.locate(ino, 0, 1 << 20), [
    { ino: a, offset: CHUNK, length: 2 * CHUNK },
    { ino: b, offset: 0, length: CHUNK },
    { ino: a, offset: 0, length: 10 },
  ]);
  assert.deepEqual(tree.locate(ino, 5000, 100), [{ ino: a, offset: CHUNK + 5000, length: 100 }]);
  assert.deepEqual(tree.locate(ino, 3 * CHUNK + 10, 100), []);
  assert.deepEqual(tree.locate(ino, 2 ** 40, 100), []);
  assert.deepEqual(tree.locate(tree.root().ino, 0, 100), [], 'a directory is no file');
});

test('an image all of whose files are in its bootstrap is no model', (t) => {
  const { tree } = open(t, buildBootstrap({ ...image([{ name: 'f', mode: FILE, size: 0, chunks: [] }]), blobs: [] }));
  assert.equal(tree.isOfFiles, false);
});

test('only what is asked for is read; what the disk has damaged is an error', (t) => {
  const names = Array.from({ length: 40_000 }, (_, i) => ({ name: `file-${String(i).padStart(6, '0')}`, mode: FILE }));
  const bytes = buildBootstrap(image(names));
  const { tree, present, data } = open(t, bytes);
  assert.ok(countReady(present) * 4096 < bytes.length / 8, `${countReady(present)} blocks`);
  at(tree, 'file-020000');
  assert.ok(countReady(present) * 4096 < bytes.length / 2, `${countReady(present)} blocks`);
  // Another thread finds what this one has read, even if the file has changed since.
  const other = openTree({ ...data, fd: -1 });
  assert.deepEqual(at(other, 'file-020000'), at(tree, 'file-020000'));
  assert.throws(() => list(other, other.root().ino, 100), /EBADF|fd/);

  const wrong = Buffer.from(bytes);
  wrong.fill(0xff, 8192);
  const damaged = open(t, wrong).tree;
  assert.throws(() => at(damaged, 'file-020000'));
  assert.throws(() => openTree({ ...data, present: createReadyMap(bytes.length).words.buffer, fd: -1 }));
});

test('a forest finds the tree of an inode, and none that is being closed', (t) => {
  const { present, data } = open(t, buildBootstrap(image([])));
  const forest = createForest();
  assert.equal(forest.treeOf(FIRST_RANGE + 40), undefined);
  forest.add(data);
  const root = forest.directory.lookup(3, Buffer.from(String(FIRST_RANGE)));
  assert.ok(typeof root === 'object');
  assert.equal(forest.treeOf(root.ino)?.first, FIRST_RANGE);
  for (const name of [String(FIRST_RANGE + 1), '0', '', 'blobs', `0${FIRST_RANGE}`])
    assert.equal(forest.directory.lookup(3, Buffer.from(name)), undefined, name);
  closeReadyMap(present);
  assert.equal(forest.treeOf(root.ino), undefined);
});

test('a tree that was closed before a thread asked for it is not read: its descriptor may be another file’s', (t) => {
  const { present, data } = open(t, buildBootstrap(image([])));
  const forest = createForest();
  forest.add({ ...data, fd: -1 });
  closeReadyMap(present);
  assert.equal(forest.treeOf(FIRST_RANGE + 40), undefined);
  // The same image, served anew under the same numbers.
  forest.add({ ...data, present: createReadyMap(data.bytes.byteLength).words.buffer });
  assert.equal(forest.treeOf(FIRST_RANGE + 40)?.first, FIRST_RANGE);
});
