import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createLayerTree } from '../../src/build/layers.ts';
import type { NymphError } from '../../src/errors.ts';
import { cleanPath, type TarEntry } from '../../src/formats/tar/read.ts';

const FILE = 0o100644;
const entry = (path: string, fields: Partial<TarEntry> = {}): TarEntry => ({
  path: cleanPath(Buffer.from(path)),
  mode: path.endsWith('/') ? 0o040755 : FILE,
  ...fields,
});
const link = (path: string, target: string): TarEntry => entry(path, { mode: 0o120777, target });

/** `path`, with `=size` of files, `>target` of links and `~first` of further names. */
function shown(...layers: TarEntry[][]): string[] {
  const tree = createLayerTree();
  for (const layer of layers) tree.add(layer, true);
  return [...tree.entries()].slice(1).map(({ path, mode, size, target, linkTo }) => {
    const tail = linkTo ? `~${linkTo}` : target ? `>${target}` : size === undefined ? '' : `=${size}`;
    return `${path}${mode >> 12 === 4 ? '/' : ''}${tail}`;
  });
}

test('later entries replace earlier ones; a directory keeps its children', () => {
  assert.deepEqual(
    shown([
      entry('a/b', { size: 1 }),
      entry('a/b', { size: 2 }),
      entry('a/', { mode: 0o040700 }),
      entry('f', { size: 1 }),
      entry('f/'),
      entry('f/g', { size: 3 }),
      entry('d/e', { size: 1 }),
      entry('d', { size: 4 }),
    ]),
    ['a/', 'a/b=2', 'd=4', 'f/', 'f/g=3'],
  );
});

test('whiteouts hide what lower layers have, and nothing of their own', () => {
  const lower = [
    entry('a/x', { size: 1 }),
    entry('a/y', { size: 1 }),
    entry('b/x', { size: 1 }),
    entry('c', { size: 1 }),
  ];
  assert.deepEqual(shown(lower, [entry('a/.wh.x'), entry('.wh.c')]), ['a/', 'a/y=1', 'b/', 'b/x=1']);
  // Whatever the order in the tar.
  assert.deepEqual(
    shown(lower, [entry('c', { size: 2 }), entry('.wh.c'), entry('a/z', { size: 2 }), entry('a/.wh..wh..opq')]),
    [...['a/', 'a/z=2', 'b/', 'b/x=1', 'c=2']],
  );
  assert.deepEqual(shown(lower, [entry('.wh.a'), entry('.wh.b'), entry('.wh.none'), entry('none/.wh.x')]), ['c=1']);
  assert.deepEqual(shown(lower, [entry('.wh..wh..opq')]), []);
  // What aufs keeps for itself.
  assert.deepEqual(shown([entry('.wh..wh.plnk/1.2', { size: 9 }), entry('.wh..wh.aufs', { size: 9 })]), []);
});

test('without whiteouts their names are names', () => {
  const tree = createLayerTree();
  tree.add([entry('a', { size: 1 }), entry('.wh.a', { size: 0 })], false);
  assert.deepEqual(
    [...tree.entries()].map(({ path }) => path.toString()),
    ['', '.wh.a', 'a'],
  );
});

test('names lead through symbolic links of what is there, and never out', () => {
  const usr = [entry('usr/lib/a', { size: 1 }), link('lib', 'usr/lib'), link('up', '../../..'), link('abs', '/usr')];
  assert.deepEqual(shown(usr, [entry('lib/b', { size: 2 }), entry('up/c', { size: 3 }), entry('abs/d', { size: 4 })]), [
    ...['abs>/usr', 'c=3', 'lib>usr/lib', 'up>../../..', 'usr/', 'usr/d=4', 'usr/lib/', 'usr/lib/a=1', 'usr/lib/b=2'],
  ]);
  // A directory of that name takes the link's place.
  assert.deepEqual(shown(usr.slice(0, 2), [entry('lib/'), entry('lib/b', { size: 2 })]), [
    ...['lib/', 'lib/b=2', 'usr/', 'usr/lib/', 'usr/lib/a=1'],
  ]);
  assert.deepEqual(shown(usr.slice(0, 2), [entry('lib/.wh.a')]), ['lib>usr/lib', 'usr/', 'usr/lib/']);
  assert.throws(
    () => shown([link('a', 'b'), link('b', 'a'), entry('a/c', { size: 1 })]),
    (error: NymphError) => error.code === 'corrupt' && /too many links/.test(error.message),
  );
});

test('hard links share an inode over layers, and lead to files only', () => {
  const lower = [entry('a', { size: 1 }), link('s', 'a'), entry('d/')];
  assert.deepEqual(
    shown(lower, [entry('d/b', { linkTo: Buffer.from('a') }), entry('t', { linkTo: Buffer.from('s') })]),
    [...['a=1', 'd/', 'd/b~a', 's>a', 't~s']],
  );
  // Its other names live on.
  assert.deepEqual(shown(lower, [entry('d/b', { linkTo: Buffer.from('a') })], [entry('.wh.a')]), [
    'd/',
    'd/b=1',
    's>a',
  ]);
  for (const target of ['none', 'd', '.wh.a'])
    assert.throws(
      () => shown(lower, [entry('x', { linkTo: Buffer.from(target) })]),
      (error: NymphError) => error.code === 'corrupt' && /hard link/.test(error.message),
    );
});
