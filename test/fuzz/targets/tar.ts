/** Tars of the builder, one over the other as layers; what comes out must be an image that can be read. */
import { holdableAttributes } from '../../../src/build/attributes.ts';
import { createLayerTree } from '../../../src/build/layers.ts';
import type { Spool } from '../../../src/build/spool.ts';
import { streamTarInput } from '../../../src/build/tar-input.ts';
import { openBootstrap, readImage } from '../../../src/formats/rafs/bootstrap.ts';
import { encodeChunks } from '../../../src/formats/rafs/chunk-addresses.ts';
import { encodeBootstrap } from '../../../src/formats/rafs/write/bootstrap.ts';
import { makeTree } from '../../../src/formats/rafs/write/tree.ts';
import { readTar, type TarEntry } from '../../../src/formats/tar/read.ts';
import { tarHeader, tarMember, tarPax } from '../../tar.ts';
import { checkAccepted } from '../image-checks.ts';
import { joinParts, splitParts } from '../parts.ts';
import { sumTarHeaders } from '../tar-sums.ts';
import { ensure, type Target } from '../target.ts';

const PIECE = 700;
const CHUNK = 4096;
const END = Buffer.alloc(1024);
const header = (name: string, type: string, linkName = '') => tarHeader({ name, type, size: 0, linkName });

function oldSparse(): Buffer {
  const member = tarMember('sparse', 'abc', { type: 'S' });
  member.write('00000000010\0', 386, 'latin1');
  member.write('00000000003\0', 398, 'latin1');
  member.write('00000000100\0', 483, 'latin1');
  return member;
}

export const target: Target = {
  name: 'tar',
  seeds: () =>
    [
      [
        [
          header('./d/', '5'),
          tarMember('./d/file', 'content'),
          header('link', '2', 'd/file'),
          header('hard', '1', 'd/file'),
        ],
        [header('d/.wh.file', '0'), header('.wh..wh..opq', '0')],
      ],
      [
        [
          tarPax([
            ['path', 'long/name'],
            ['uid', '70000'],
            ['mtime', '1.5'],
            ['SCHILY.xattr.user.a', 'v\n=v'],
            ['LIBARCHIVE.xattr.user%2eb', 'dg=='],
          ]),
          tarMember('x', 'y'),
        ],
        [],
      ],
      [
        [
          tarPax([['mtime', '-7.25']], 'g'),
          tarHeader({ name: 'L', type: 'L', size: 5 }),
          Buffer.from('name\0').fill(0, 5),
          Buffer.concat([Buffer.from('name\0'), Buffer.alloc(507)]),
          header('short', '0'),
        ],
        [header('a', '3'), header('b', '4'), header('c', '6')],
      ],
      [
        [
          oldSparse(),
          tarPax([
            ['GNU.sparse.major', '1'],
            ['GNU.sparse.minor', '0'],
            ['GNU.sparse.realsize', '100'],
            ['GNU.sparse.name', 's'],
          ]),
          tarMember('s1', Buffer.concat([Buffer.from('1\n10\n3\n'), Buffer.alloc(505), Buffer.from('abc')])),
        ],
        [],
      ],
      [
        [
          tarPax([
            ['GNU.sparse.size', '100'],
            ['GNU.sparse.map', '5,3'],
          ]),
          tarMember('s0', 'abc'),
        ],
        [tarHeader({ name: 'old', type: '0', size: 0, mtime: -5, base256: true })],
      ],
      [
        [header('loop', '2', 'loop'), tarMember('loop/inside', 'x')],
        [header('a', '2', '../../..'), tarMember('a/b', 'c'), header('self', '1', 'self')],
      ],
    ].map((layers) => joinParts(...layers.map((members) => Buffer.concat([...members, END])))),
  errors: ['corrupt', 'unsupported', 'usage'],
  // A hard link to what is not there is found when names are put together: no byte of the tar is wrong by itself.
  places: false,
  limit: 32 << 10,
  words: [
    'path',
    'linkpath',
    'size',
    'uid',
    'mtime',
    'GNU.sparse.',
    'major',
    'map',
    'realsize',
    'SCHILY.xattr.',
    'LIBARCHIVE.xattr.',
    '.wh.',
    '.wh..wh..opq',
    '../',
    './',
    '//',
    '\x80\0\0\0',
    '77777777777\0',
    '30 size=99999999999\n',
    'security.capability',
    'system.posix_acl_access',
  ],
  repair: (input) => {
    const [first, second] = splitParts(input, 2);
    sumTarHeaders(first);
    sumTarHeaders(second);
  },
  async run(input) {
    const names = createLayerTree();
    let count = 0;
    for (const layer of splitParts(input, 2)) {
      const entries = await readAll(layer);
      count += entries.length;
      names.add(entries, true);
    }
    const tree = await makeTree(holdableAttributes(names.entries(), { count: 0 }));
    for (const { node } of tree.files)
      node.content = { kind: 'file', size: 0, ...encodeChunks(0, CHUNK, () => undefined) };
    const bytes = encodeBootstrap({
      ...{ tree, blobs: [], chunkSize: CHUNK, compressor: 'zstd', digester: 'blake3', prefetch: [], toc: true },
      buildTime: 0,
    });
    const bootstrap = openBootstrap(bytes);
    const { image, counts } = readImage(bootstrap);
    checkAccepted(bootstrap.erofs.bytes, image, counts);
    return `${Math.ceil(Math.log2(count + 1))} ${Math.ceil(Math.log2(tree.names))}`;
  },
};

async function readAll(layer: Buffer): Promise<TarEntry[]> {
  const entries: TarEntry[] = [];
  let written = 0;
  const count = (bytes: number) => {
    written += bytes;
  };
  for await (const entry of readTar(streamTarInput(pieces(layer), spoolFor(count)))) {
    const path = entry.path.toString('latin1');
    ensure(
      path === '' || path.split('/').every((name) => !['', '.', '..'].includes(name)),
      `the path ${JSON.stringify(path)}`,
    );
    ensure(Number.isSafeInteger(entry.size ?? 0) && (entry.size ?? 0) >= 0, `${entry.size} bytes`);
    ensure(
      Number.isInteger(entry.mode) && Number.isSafeInteger(entry.mtime),
      `mode ${entry.mode}, time ${entry.mtime}`,
    );
    entries.push(entry);
  }
  ensure(written <= layer.length, `${written} bytes came of ${layer.length}`);
  return entries;
}

async function* pieces(bytes: Buffer): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += PIECE) yield bytes.subarray(at, at + PIECE);
}

/** Checks that content is put where there is room for it. */
function spoolFor(count: (bytes: number) => void): Spool {
  let end = 0;
  let last = -1;
  return {
    reserve(size) {
      ensure(Number.isSafeInteger(size) && size >= 0, `room for ${size} bytes`);
      end += size;
      return { kind: 'range', fd: -1, offset: end - size };
    },
    async write(bytes, offset) {
      ensure(offset > last && offset + bytes.length <= end, `${bytes.length} bytes at ${offset} of ${end}`);
      last = offset;
      count(bytes.length);
    },
    finish: async () => {},
    close: async () => {},
  };
}
