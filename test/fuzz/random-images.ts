/** Images out of a grammar that knows what must not be: names that are paths, directories that hold themselves, loops. */
import { buildBootstrap, type TestBlob, type TestNode } from '../unit/rafs-builder.ts';
import { buildV5, type NodeV5 } from '../unit/rafs-v5-builder.ts';
import { exampleBlob } from './example-images.ts';
import type { Random } from './random.ts';

const NAMES = ['a', 'b', 'aa', 'A', 'file', '..a', 'n'.repeat(255), '\xff\xfe', 'é', ' ', '-', 'libx.so.1', 'libx.so'];
const ODD_NAMES = ['.', '..', '/', 'a/b', 'a\0b', '\0', '', 'n'.repeat(256), '../x'];
const TYPES = [0o100644, 0o100644, 0o100755, 0o040755, 0o040755, 0o120777, 0o020600, 0o060600, 0o010600, 0o140600];
const ODD_TYPES = [0o000644, 0o170000, 0o110644, 0o004755];
const SIZES = [0, 1, 100, 4095, 4096, 4097, 8192, 12_000];
const ODD_SIZES = [2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1];
const TARGETS = ['a', 'libx.so.1', '.', '..', '../a', '/', 'a/b/c', 'x'.repeat(4095)];
const ROOT = 0o040755;
const MOST_NODES = 24;
const CHUNK = 4096;

/** Odd ones now and then: an image with many would be refused for the first. */
const choose = <T>(random: Random, usual: readonly T[], odd: readonly T[]) =>
  random.pick(random.oneIn(64) ? odd : usual);

export function randomBootstrap(random: Random): Buffer {
  const blobs: TestBlob[] = [];
  for (let i = random.int(3); i >= 0; i--)
    blobs.push(
      exampleBlob(
        'abc'[i],
        Array.from({ length: 1 + random.int(6) }, () => 1 + random.int(CHUNK)),
      ),
    );
  const all: TestNode[] = [];
  const node = (depth: number): TestNode => {
    const made: TestNode = {
      name: Buffer.from(choose(random, NAMES, ODD_NAMES), 'latin1'),
      mode: depth === 0 ? ROOT : choose(random, TYPES, ODD_TYPES),
    };
    all.push(made);
    if (random.oneIn(4))
      made.xattrs = [
        [
          choose(random, [1, 2, 3, 4, 6], [0, 9]),
          choose(random, ['', 'a'], ['x\0y']),
          Buffer.alloc(random.pick([0, 1, 300]), 7),
        ],
      ];
    if (random.oneIn(4)) made.compact = true;
    if (random.oneIn(24)) made.nlink = random.pick([0, 2, 0xffff]);
    const type = made.mode >> 12;
    if (type === 4) {
      made.children = [];
      const names = new Set<string>();
      for (let i = (depth === 0 ? 2 : 0) + random.int(5); i > 0 && depth < 5 && all.length < MOST_NODES; i--) {
        // The same inode once more, which may be this very directory.
        const child = random.oneIn(8) ? { name: `link-${i}`, mode: 0, linkTo: random.pick(all) } : node(depth + 1);
        const name = Buffer.from(child.name).toString('latin1');
        if (!names.has(name) || random.oneIn(24)) made.children.push(child);
        names.add(name);
      }
    } else if (type === 10) made.target = Buffer.from(random.pick(TARGETS));
    else if (type === 8) fillFile(made, blobs, random);
    else made.rdev = random.pick([0, 0x103, 0xffffffff]);
    return made;
  };
  const root = node(0);
  const prefetch = random.oneIn(3) ? [random.pick(all)].filter((one) => reaches(root, one, new Set())) : [];
  return buildBootstrap({ root, chunkSize: CHUNK, blobs, prefetch });
}

function fillFile(file: TestNode, blobs: readonly TestBlob[], random: Random): void {
  const blob = random.int(blobs.length);
  const { chunks } = blobs[blob];
  const first = random.int(chunks.length);
  file.size = chunks[first].size;
  file.chunks = [[blob, first]];
  if (random.oneIn(4)) file.kernelBits = random.pick([0, 1, 5, 31]);
  if (!random.oneIn(16)) return;
  file.size = choose(random, SIZES, ODD_SIZES);
  // A size that a compact inode has no room for.
  if (file.size > 0xffffffff) file.compact = false;
}

function reaches(from: TestNode, wanted: TestNode, seen: Set<TestNode>): boolean {
  if (from === wanted) return true;
  if (seen.has(from)) return false;
  seen.add(from);
  return (from.children ?? []).some((child) => child.linkTo === undefined && reaches(child, wanted, seen));
}

export function randomBootstrapV5(random: Random): Buffer {
  const all: NodeV5[] = [];
  const node = (depth: number): NodeV5 => {
    const made: NodeV5 = {
      name: Buffer.from(choose(random, NAMES, ODD_NAMES), 'latin1'),
      mode: depth === 0 ? ROOT : choose(random, TYPES, ODD_TYPES),
    };
    if (random.oneIn(4))
      made.xattrs = [
        [
          random.pick(['user.a', 'trusted.b', 'odd', 'user.', 'system.posix_acl_access']),
          Buffer.alloc(random.pick([0, 1, 300]), 7),
        ],
      ];
    if (random.oneIn(24)) made.nlink = random.pick([0, 2, 0xffffffff]);
    const type = made.mode >> 12;
    all.push(made);
    if (type === 4) {
      made.children = [];
      for (let i = (depth === 0 ? 2 : 0) + random.int(5); i > 0 && depth < 5 && all.length < MOST_NODES; i--) {
        const files = all.filter((one) => one.children === undefined);
        made.children.push(
          random.oneIn(8) && files.length > 0
            ? { ...random.pick(files), name: `link-${i}`, linkTo: random.pick(files) }
            : node(depth + 1),
        );
      }
    } else if (type === 10) made.target = Buffer.from(random.pick(TARGETS));
    else if (type === 8) {
      made.content = Buffer.alloc(random.pick(SIZES), random.int(4));
      made.blob = random.int(2);
      if (random.oneIn(4)) made.holes = [0];
    }
    return made;
  };
  const root: NodeV5 = { ...node(0), name: '/' };
  const options = {
    chunkSize: CHUNK,
    aligned: random.oneIn(3),
    extended: !random.oneIn(4),
    numbered: !random.oneIn(4),
  };
  return buildV5(root, {
    ...options,
    codec: random.pick(['none', 'zstd', 'lz4_block']),
    digester: random.pick(['sha256', 'blake3']),
  }).bootstrap;
}
