/** Tars of files among the layers of a model. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { treeFiles } from '../../src/cli/tree-files.ts';
import { openErofs } from '../../src/erofs/super-block.ts';
import { imageOfFiles } from '../../src/formats/files/image.ts';
import { listOfLayers } from '../../src/formats/files/layers.ts';
import { seekableTar, streamedTar } from '../../src/formats/tar/bytes.ts';
import { tarMembers } from '../../src/formats/tar/members.ts';
import type { LayerPlan } from '../../src/image/files.ts';
import { tarHeader, tarMember, tarPax } from '../tar.ts';

const END = Buffer.alloc(1024);
const link = (name: string, type: string, linkName: string) => tarHeader({ name, type, size: 0, linkName });

const membersOf = async (...parts: Buffer[]) =>
  tarMembers(
    streamedTar(
      (async function* () {
        yield Buffer.concat([...parts, END]);
      })(),
    ),
    'a tar',
  );

/** A tar of any size of which only what was written down is there. @returns what was asked for */
function sparse(size: number, parts: ReadonlyMap<number, Buffer>) {
  const asked: [offset: number, length: number][] = [];
  const readAt = async (offset: number, length: number) => {
    asked.push([offset, length]);
    const bytes = Buffer.alloc(length);
    for (const [at, part] of parts)
      if (at < offset + length && at + part.length > offset)
        part.copy(bytes, Math.max(0, at - offset), Math.max(0, offset - at));
    return bytes;
  };
  return { tar: seekableTar(readAt, size), asked };
}

describe('tars of files', () => {
  test('of a tar of 40 GB with one file, two small pieces are read', async () => {
    const size = 40 * 2 ** 30 + 5;
    const header = Buffer.concat([
      tarPax([['size', String(size)]]),
      tarHeader({ name: 'model.gguf', type: '0', size: 0 }),
    ]);
    const whole = header.length + Math.ceil(size / 512) * 512 + END.length;
    const { tar, asked } = sparse(whole, new Map([[0, header]]));
    const [member] = await tarMembers(tar, 'a tar');
    assert.deepEqual([member.path, member.content], ['model.gguf', { kind: 'file', size, offset: header.length }]);
    assert.equal(asked.length, 2);
    assert.ok(asked.reduce((sum, [, length]) => sum + length, 0) <= 16 << 10);
  });

  test('headers that lie close together are read in large pieces', async () => {
    const one = tarMember('x', Buffer.alloc(3000));
    const bytes = Buffer.concat([...Array.from({ length: 5000 }, () => one), END]);
    const { tar, asked } = sparse(bytes.length, new Map([[0, bytes]]));
    assert.equal((await tarMembers(tar, 'a tar')).length, 5000);
    assert.ok(asked.length < 14, `${asked.length} reads`);
  });

  test('names, attributes and links are those of the headers', async () => {
    const found = await membersOf(
      link('./', '5', ''),
      link('./d/', '5', ''),
      tarMember('./d/a', 'abc', { mode: 0o4755, uid: 7, mtime: 5 }),
      tarPax([
        ['path', 'd/long'],
        ['mtime', '1.25'],
      ]),
      tarMember('short', ''),
      link('d/soft', '2', '../d/a'),
      link('hard', '1', './d/a'),
    );
    assert.deepEqual(
      found.map(({ path, mode, uid, mtime, mtimeNs, content }) => [path, mode, uid, mtime, mtimeNs, content]),
      [
        ['d', 0o644, 0, 0, 0, { kind: 'directory' }],
        ['d/a', 0o755, 7, 5, 0, { kind: 'file', size: 3, offset: 1536 }],
        ['d/long', 0o644, 0, 1, 250_000_000, { kind: 'file', size: 0, offset: 0 }],
        ['d/soft', 0o644, 0, 0, 0, { kind: 'symlink', target: '../d/a' }],
        ['hard', 0o644, 0, 0, 0, { kind: 'file', size: 3, offset: 1536 }],
      ],
    );
  });

  test('what leads out of the tree, or is no file, is refused by name', async () => {
    for (const [member, code] of [
      [tarMember('../x', 'a'), 'corrupt'],
      [tarMember('a/../x', 'a'), 'corrupt'],
      [tarMember('/etc/passwd', 'a'), 'corrupt'],
      [tarMember(Buffer.from([0x61, 0xff]) as never, 'a'), 'corrupt'],
      [link('l', '2', '/etc/passwd'), 'corrupt'],
      [link('l', '2', '../x'), 'corrupt'],
      [link('d/l', '2', 'e/../../x'), 'corrupt'],
      [link('l', '1', 'nowhere'), 'corrupt'],
      [link('l', '3', ''), 'unsupported'],
      [link('l', '6', ''), 'unsupported'],
      [
        Buffer.concat([
          tarPax([
            ['GNU.sparse.size', '100'],
            ['GNU.sparse.map', '5,3'],
          ]),
          tarMember('s', 'abc'),
        ]),
        'unsupported',
      ],
      [tarHeader({ name: 'cut', type: '0', size: 5000 }), 'corrupt'],
      [Buffer.from('no tar at all'.padEnd(512)), 'corrupt'],
    ] as const)
      await assert.rejects(membersOf(member), { code }, JSON.stringify(member.toString('latin1', 0, 20)));
    await assert.rejects(
      tarMembers(
        seekableTar(async () => Buffer.alloc(0), 0),
        'a tar',
      ),
      { code: 'corrupt' },
    );
  });

  test('files lie in the blob of their layer at whole sectors, and of two with one name the later counts', async () => {
    const members = await membersOf(
      tarMember('a', 'first'),
      tarMember('a', 'second'),
      tarMember('d/b', Buffer.alloc(9000)),
    );
    const digest = `sha256:${'ab'.repeat(32)}` as const;
    const plan: LayerPlan = {
      layer: { mediaType: '', digest, size: 20_000 },
      holds: { kind: 'tar', codec: 'none', folder: 'in' },
    };
    const list = listOfLayers('artifact', [plan], new Map([[plan, { members }]]), 'place');
    const { bootstrap, image, warnings, extents } = imageOfFiles(list, 'a manifest');
    assert.deepEqual(
      treeFiles(bootstrap, true).map(({ path, size, blob }) => [path, size, blob]),
      [
        ['in', 0, undefined],
        ['in/a', 6, 0],
        ['in/d', 0, undefined],
        ['in/d/b', 9000, 0],
      ],
    );
    assert.match(warnings.join(), /in\/a is there twice/);
    assert.deepEqual(
      image.blobs.map(({ id, size }) => [id, size]),
      [['ab'.repeat(32), 20_000]],
    );
    assert.deepEqual(
      extents[0]?.map(({ offset }) => offset),
      [512, 1536, 2560],
    );
    assert.equal(openErofs(bootstrap).devices.length, 0);
  });
});
