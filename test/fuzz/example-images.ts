/** Small images of every kind, to begin with. */
import { buildBootstrap, type TestBlob, type TestImage, type TestNode } from '../unit/rafs-builder.ts';
import { buildV5, type NodeV5, type OptionsV5 } from '../unit/rafs-v5-builder.ts';

const FILE = 0o100644;
const DIR = 0o040755;
const CHUNK = 8192;

export function exampleBlob(letter: string, sizes: number[], features = 0x70000021): TestBlob {
  let storedOffset = 0;
  const chunks = sizes.map((size) => {
    const stored = Math.max(1, size >> 1);
    storedOffset += stored;
    return { size, stored, compressed: stored < size, storedOffset: storedOffset - stored };
  });
  return { id: letter.repeat(64), features, compressor: 3, digester: 1, chunks };
}

export function exampleBootstraps(): Buffer[] {
  const small: TestNode = {
    name: 'small',
    mode: FILE,
    size: 100,
    chunks: [[0, 0]],
    nlink: 2,
    xattrs: [[1, 'a', Buffer.from('v')]],
  };
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
  const link: TestNode = { name: 'link', mode: 0o120777, target: Buffer.from('sub/large') };
  const sub: TestNode = {
    name: 'sub',
    mode: DIR,
    children: [large, small, { name: 'hard', mode: FILE, linkTo: small }],
    xattrs: [
      [4, 'overlay.opaque', Buffer.from('y')],
      [6, 'capability', Buffer.alloc(20, 1)],
    ],
  };
  const special: TestNode = {
    name: 'special',
    mode: DIR,
    children: [
      { name: 'null', mode: 0o020666, rdev: 0x103 },
      { name: 'disk', mode: 0o060600, rdev: 0x811 },
      { name: 'fifo', mode: 0o010600 },
      { name: 'socket', mode: 0o140600 },
      { name: 'compact', mode: 0o100600, compact: true, size: 100, chunks: [[0, 0]], uid: 7, gid: 8 },
      {
        name: 'acl',
        mode: FILE,
        xattrs: [
          [2, '', Buffer.alloc(28, 2)],
          [3, '', Buffer.alloc(4)],
        ],
      },
    ],
  };
  const blobs = () => [exampleBlob('a', [100, CHUNK, CHUNK, CHUNK - 5]), exampleBlob('b', [CHUNK])];
  const all: TestImage = {
    root: { name: '', mode: DIR, children: [both, { name: 'empty', mode: FILE }, link, special, sub] },
    chunkSize: CHUNK,
    blobs: blobs(),
    prefetch: [small, sub],
  };
  const wide = Array.from(
    { length: 300 },
    (_, i): TestNode => ({ name: `name-${String(i).padStart(5, '0')}`, mode: FILE, compact: true }),
  );
  const images: TestImage[] = [
    all,
    { root: { name: '', mode: DIR, children: [] }, chunkSize: 4096, blobs: [] },
    {
      root: { name: '', mode: DIR, children: [{ name: 'f', mode: FILE, size: 100, chunks: [[0, 0]] }] },
      chunkSize: 4096,
      blobs: [exampleBlob('c', [100])],
    },
    { root: { name: '', mode: DIR, children: wide }, chunkSize: CHUNK, blobs: [exampleBlob('a', [100])] },
    {
      root: { name: '', mode: DIR, children: [{ name: 'long', mode: 0o120777, target: Buffer.alloc(4090, 'x') }] },
      chunkSize: CHUNK,
      blobs: [],
    },
  ];
  const [, withRoot] = [0, { ...all, prefetch: [all.root] }];
  return [...images, withRoot].map((image) => buildBootstrap(image));
}

export function exampleBootstrapsV5(): Buffer[] {
  const bytes = (length: number, start: number) =>
    Buffer.from(Array.from({ length }, (_, i) => (i * 7 + start + (i >> 5)) & 0xff));
  const content = bytes(3 * 4096 - 5, 1);
  const small: NodeV5 = { name: 'small', mode: FILE, content: bytes(100, 2) };
  const hollow: NodeV5 = { name: 'hollow', mode: FILE, content: Buffer.alloc(4096 + 9), holes: [0] };
  const sub: NodeV5 = {
    name: 'sub',
    mode: DIR,
    children: [{ name: 'large', mode: FILE, content }, { name: 'hard', mode: FILE, linkTo: small }, hollow],
  };
  const root: NodeV5 = {
    name: '/',
    mode: DIR,
    children: [
      small,
      sub,
      { name: 'link', mode: 0o120777, target: Buffer.from('sub/large') },
      { name: 'other', mode: DIR, children: [{ name: 'twin', mode: FILE, content, blob: 1 }] },
      {
        name: 'x',
        mode: FILE,
        xattrs: [
          ['user.name', Buffer.from('value')],
          ['trusted.t', Buffer.alloc(9)],
        ],
      },
      { name: 'device', mode: 0o020600, rdev: 0x105 },
    ],
  };
  const kinds: OptionsV5[] = [
    {},
    { aligned: true, alignedFlag: true, digester: 'sha256', codec: 'lz4_block' },
    { extended: false, numbered: false, codec: 'none' },
    { codec: 'gzip', prefetch: [small, sub] },
    { prefetch: [root], padding: 3 },
  ];
  return kinds.map((options) => buildV5(root, { chunkSize: 4096, ...options }).bootstrap);
}
