import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { createLayerTree } from '../../src/build/layers.ts';
import { openTarFile } from '../../src/build/tar-file.ts';
import { NymphError } from '../../src/errors.ts';
import { buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../../src/formats/rafs/write/directory.ts';
import type { SourceEntry } from '../../src/formats/rafs/write/source.ts';
import type { TarEntry } from '../../src/formats/tar/read.ts';
import { tarHeader, tarMember, tarPax } from '../tar.ts';
import { makeKinds, noiseBytes } from '../tree.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-tar-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Members of a tar with their content. */
async function read(t: TestContext, tar: Uint8Array): Promise<(TarEntry & { text?: string })[]> {
  const directory = scratch(t);
  const path = join(directory, 'in.tar');
  writeFileSync(path, tar);
  const open = await openTarFile(path, { directory });
  try {
    return open.entries.map((entry) => ({ ...entry, text: contentOf(entry)?.toString('latin1') }));
  } finally {
    await open.close();
  }
}

function contentOf({ content, size = 0 }: SourceEntry): Buffer | undefined {
  if (content?.kind !== 'range') return undefined;
  const bytes = Buffer.alloc(size);
  assert.equal(readSync(content.fd, bytes, 0, size, content.offset), size);
  return bytes;
}

const end = Buffer.alloc(1024);
const refused = (code: string, why: RegExp) => (error: unknown) =>
  error instanceof NymphError && error.code === code && why.test(error.message);

test('extended headers hold names, sizes, owners, times and attributes; values may be any bytes', async (t) => {
  const binary = Buffer.from([0, 10, 61, 255, 10, 0]);
  const tar = Buffer.concat([
    tarPax([
      ['path', `${'long/'.repeat(60)}name\nwith a line break`],
      ['uid', '3000000'],
      ['gid', '4000000000'],
      ['mtime', '-1.25'],
      ['SCHILY.xattr.user.binary', binary],
      ['SCHILY.xattr.user.text', 'a\nb=c\n9 x=y\n'],
      ['LIBARCHIVE.xattr.user.%62ase', binary.toString('base64')],
      ['comment', 'nothing'],
    ]),
    tarMember('short', 'hello'),
    tarMember('plain', 'x'),
    end,
  ]);
  const [first, plain] = await read(t, tar);
  assert.equal(first.path.toString(), `${'long/'.repeat(60)}name\nwith a line break`);
  assert.deepEqual([first.uid, first.gid, first.mtime, first.mtimeNs], [3000000, 4000000000, -2, 750_000_000]);
  assert.deepEqual(first.xattrs, [
    { name: 'user.base', value: binary },
    { name: 'user.binary', value: binary },
    { name: 'user.text', value: Buffer.from('a\nb=c\n9 x=y\n') },
  ]);
  assert.equal(first.text, 'hello');
  assert.deepEqual([plain.path.toString(), plain.uid, plain.xattrs], ['plain', 0, []]);
});

test('global headers count until others replace them; numbers may have base 256; V7 names end with a slash', async (t) => {
  const tar = Buffer.concat([
    tarPax([['uid', '7']], 'g'),
    tarMember('a', '1'),
    tarPax([['uid', '8']]),
    tarMember('b', '22'),
    tarHeader({ name: './c//d/../e/', type: '\0', size: 0, mtime: -5, base256: true }),
    tarHeader({ name: '../../etc', type: '5', size: 12345 }),
    tarHeader({ name: 'link', type: '1', linkName: './a', size: 1 }),
    end,
  ]);
  const entries = await read(t, tar);
  assert.deepEqual(
    entries.map(({ path, uid, mode, mtime, linkTo }) => [path.toString(), uid, mode >> 12, mtime, linkTo?.toString()]),
    [
      ['a', 7, 8, 0, undefined],
      ['b', 8, 8, 0, undefined],
      ['c/e', 7, 4, -5, undefined],
      ['etc', 7, 4, 0, undefined],
      ['link', 7, 8, 0, 'a'],
    ],
  );
});

test('what is no tar, or broken, is refused with its place', async (t) => {
  const cases: [Uint8Array, string, RegExp][] = [
    [Buffer.alloc(0), 'corrupt', /empty/],
    [Buffer.from('hello'), 'corrupt', /cut short/],
    [noiseBytes(2048, 1), 'corrupt', /checksum/],
    [tarMember('a', 'x'.repeat(3000)).subarray(0, 2000), 'corrupt', /cut short/],
    [gzipSync(tarMember('a', 'x'.repeat(3000))).subarray(0, 40), 'corrupt', /gzip/],
    [zstdCompressSync(tarMember('a', 'x'.repeat(3000))).subarray(0, 40), 'corrupt', /cut short/],
    [Buffer.from('BZh91AY&SY'), 'unsupported', /bzip2/],
    [Buffer.concat([tarHeader({ name: 'm', type: 'M', size: 0 }), end]), 'unsupported', /"m" at byte 0 has type "M"/],
    [Buffer.concat([tarPax([['size', '99999999999999999999']]), tarMember('a', 'x'), end]), 'corrupt', /size/],
    [Buffer.concat([tarHeader({ name: '', type: 'x', size: 20 }), Buffer.alloc(512, '9'), end]), 'corrupt', /length/],
    [Buffer.concat([tarPax([['mtime', 'soon']]), tarMember('a', 'x'), end]), 'corrupt', /mtime/],
    [
      Buffer.concat([
        tarPax([
          ['GNU.sparse.size', '10'],
          ['GNU.sparse.map', '8,4'],
        ]),
        tarMember('a', 'abcd'),
        end,
      ]),
      'corrupt',
      /sparse map/,
    ],
  ];
  for (const [bytes, code, why] of cases) await assert.rejects(read(t, bytes), refused(code, why), String(why));
});

test('streams of several zstd frames and gzip members are read to their end, skippable frames passed over', async (t) => {
  const tar = Buffer.concat([tarMember('a', 'A'.repeat(70_000)), tarMember('b', noiseBytes(300_000, 2)), end]);
  const parts = [tar.subarray(0, 1000), tar.subarray(1000, 65_000), tar.subarray(65_000)];
  const skippable = Buffer.concat([Buffer.from([0x5e, 0x2a, 0x4d, 0x18, 5, 0, 0, 0]), Buffer.from('hello')]);
  const zstd = parts.map((part) => zstdCompressSync(part));
  const packed = [
    Buffer.concat(zstd),
    Buffer.concat([skippable, zstd[0], skippable, zstd[1], zstd[2], skippable]),
    Buffer.concat(parts.map((part) => gzipSync(part))),
  ];
  const expected = (await read(t, tar)).map(({ text }) => text);
  assert.deepEqual(
    expected.map((text) => text?.length),
    [70_000, 300_000],
  );
  for (const bytes of packed)
    assert.deepEqual(
      (await read(t, bytes)).map(({ text }) => text),
      expected,
    );
});

test("sparse files of GNU tar's four formats come back", async (t) => {
  const directory = scratch(t);
  const expected = Buffer.alloc(3_000_000);
  for (let i = 0; i < 30; i++) expected.write(`piece ${i}`, 100_000 * i + 77);
  execFileSync('truncate', ['-s', '3000000', join(directory, 'sparse')]);
  for (let i = 0; i < 30; i++)
    execFileSync(
      'dd',
      ['conv=notrunc', `of=${join(directory, 'sparse')}`, 'bs=1', `seek=${100_000 * i + 77}`, 'status=none'],
      {
        input: `piece ${i}`,
      },
    );
  for (const format of [
    ['gnu'],
    ['pax', '--sparse-version=0.0'],
    ['pax', '--sparse-version=0.1'],
    ['pax', '--sparse-version=1.0'],
  ]) {
    const tar = join(directory, 'out.tar');
    execFileSync('tar', ['-S', `--format=${format[0]}`, ...format.slice(1), '-cf', tar, '-C', directory, 'sparse']);
    const bytes = readFileSync(tar);
    assert.ok(bytes.length < 1_000_000, 'the archive is sparse');
    for (const packed of [bytes, gzipSync(bytes)]) {
      const [entry] = await read(t, packed);
      assert.equal(entry.path.toString(), 'sparse');
      assert.ok(Buffer.from(entry.text!, 'latin1').equals(expected), format.join(' '));
    }
  }
});

test('a directory and the tars that GNU tar makes of it give the same image, byte for byte', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  // Tars hold no sockets.
  makeKinds(root, { special: false });
  const options = (name: string) => ({ bootstrap: join(directory, name), blobs: join(directory, 'blobs') });
  const truth = await buildRafsV6(walkDirectory(root), options('truth'));
  const tars: [string, string[]][] = [
    ['plain', []],
    ['gzip', ['-z']],
    ['zstd', ['--zstd']],
    ['sparse', ['-S']],
    ['by name', ['--sort=name']],
  ];
  for (const [name, flags] of tars) {
    const path = join(directory, `${name}.tar`);
    const run = spawnSync('tar', [
      '--format=pax',
      '--xattrs',
      '--xattrs-include=*',
      ...flags,
      '-cf',
      path,
      '-C',
      root,
      '.',
    ]);
    assert.equal(run.status, 0, String(run.stderr));
    const tar = await openTarFile(path, { directory });
    try {
      const tree = createLayerTree();
      tree.add(tar.entries, false);
      const built = await buildRafsV6(tree.entries(), options(name));
      assert.deepEqual(built.blobs, truth.blobs, name);
      assert.ok(readFileSync(built.bootstrap).equals(readFileSync(truth.bootstrap)), name);
    } finally {
      await tar.close();
    }
  }
});
