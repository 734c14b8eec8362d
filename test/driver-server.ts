/**
 * A process that serves trees by one FUSE driver, for `driver-suite.ts`: `node driver-server.ts DRIVER DIR FLAT…`. Each FLAT
 * has `bootstrap` and, in `flat/`, its blobs as flat files; they become visible as `DIR/m0`, `DIR/m1` and so on. Nothing
 * is registered as being here until told. Speaks JSON lines on standard input and output.
 */
import { closeSync, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { FIRST_RANGE } from '../src/cache/cache.ts';
import { createReadyMap, setMark, setReady } from '../src/cache/ready-map.ts';
import { openErofs } from '../src/erofs/super-block.ts';
import { NymphError } from '../src/errors.ts';
import { type Attributes, type Extent, type FileSystem, TREE_GRAIN, TREES } from '../src/fuse/driver.ts';
import { createKernelDriver } from '../src/fuse/kernel-driver.ts';
import { createNativeDriver } from '../src/fuse/native-driver.ts';
import { loadNativeModule } from '../src/fuse/native-module.ts';
import { mountFuse } from '../src/mount/fuse.ts';
import { bindTree, treePath } from '../src/mount/tree.ts';

/** What the file system does with bytes that are not here. */
export type Mood = 'give' | 'fail' | 'hold';

export interface Said {
  up?: true;
  done?: string;
  asked?: Extent[];
  reached?: number;
  hits?: number;
  faults?: number;
}

const [kind, directory, ...images] = process.argv.slice(2);
const say = (message: Said) => process.stdout.write(`${JSON.stringify(message)}\n`);
const log = (_level: string, message: string, fields?: object) => console.error(message, fields);
/** `lent` is the driver's descriptor, `fd` that of the file system. */
const files = new Map<number, { fd: number; size: number; lent: number }>();
const held: (() => void)[] = [];
let mood: Mood = 'give';
let asked: Extent[] = [];
let reached = 0;

const node = (ino: number): Attributes => ({
  ino,
  mode: 0o40755,
  nlink: 2,
  uid: 0,
  gid: 0,
  rdev: 0,
  size: 0,
  mtime: 0,
  mtimeNs: 0,
});
const fileSystem: FileSystem = {
  lookup: (parent, name) => (parent === 1 && Buffer.from(name).toString() === 'trees' ? node(TREES) : undefined),
  getattr: (ino) => (ino === 1 || ino === TREES ? node(ino) : undefined),
  readdir: () => true,
  async read(extents) {
    asked.push(...extents);
    if (mood === 'fail') throw new NymphError('source', 'told to fail');
    if (mood === 'hold') await new Promise<void>((resolve) => held.push(resolve));
    return extents.map(({ ino, offset, length }) => {
      const buffer = Buffer.alloc(length);
      readSync(files.get(ino)!.fd, buffer, 0, length, offset);
      return buffer;
    });
  },
  reached: () => void reached++,
};

const native = kind === 'fuse-native' ? createNativeDriver(await loadNativeModule(), { log }) : undefined;
const fuseFd = native === undefined ? openSync('/dev/fuse', 'r+') : -1;
const fuseDirectory = join(directory, 'fs');
if (native === undefined) await mountFuse(fuseFd, fuseDirectory);
const driver =
  native ?? createKernelDriver({ fuseFd, threads: 2, inherited: false, log, onEnd: () => process.exit(0) });
await driver.start(fileSystem);

const registered = images.flatMap((image, i) => {
  const bootstrap = openSync(join(image, 'bootstrap'), 'r');
  const { size } = fstatSync(bootstrap);
  const blobs = openErofs(readFileSync(bootstrap)).devices.map(({ tag }, n) => {
    const ino = 2 ** 20 + 16 * i + n;
    const path = join(image, 'flat', tag);
    const fd = openSync(path, 'r');
    files.set(ino, { fd, size: fstatSync(fd).size, lent: openSync(path, 'r') });
    return ino;
  });
  const first = FIRST_RANGE + i * TREE_GRAIN;
  const [bytes, present] = [new SharedArrayBuffer(size), createReadyMap(size)];
  driver.registerTree({ first, fd: bootstrap, bytes, present, blobs, isOfFiles: false });
  return { first, blobs };
});
const maps = new Map([...files].map(([ino, { size }]) => [ino, createReadyMap(size)]));
for (const [ino, { size, lent }] of files) driver.register({ ino, size, fd: lent, ready: maps.get(ino)! });
for (const [i, { first }] of registered.entries()) {
  const place = join(directory, `m${i}`);
  if (native !== undefined) await native.mountTree(first, place);
  else await bindTree(treePath(fuseDirectory, first), place);
}
say({ up: true });

/** Other files take the place of the descriptors that the driver had: it must not read them. */
async function unregister(): Promise<void> {
  await Promise.all([...files.keys()].map((ino) => driver.unregister(ino)));
  for (const { lent } of files.values()) closeSync(lent);
  for (const _ of files) openSync('/dev/zero', 'r');
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'give' || line === 'fail' || line === 'hold') mood = line;
  else if (line === 'release') for (const release of held.splice(0)) release();
  else if (line === 'ready') for (const [ino, { size }] of files) setReady(maps.get(ino)!, 0, size);
  else if (line === 'half') for (const [ino, { size }] of files) setReady(maps.get(ino)!, 0, Math.floor(size / 2));
  else if (line === 'mark') for (const [ino] of files) setMark(maps.get(ino)!, 0);
  else if (line === 'unregister') await unregister();
  const { hits, faults } = driver.statistics();
  say({ done: line, asked, reached, hits, faults });
  asked = [];
}
process.exit(0);
