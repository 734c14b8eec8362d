/**
 * A process that serves files by the FUSE driver, for `fuse-driver.test.ts`: `node fuse-server.ts DIR LIFE`, /dev/fuse as
 * descriptor 3. Speaks JSON lines on standard input and output.
 *
 * File `f<n>` (inode 2^20 + n) has blocks of 4 KiB that are full of the byte `n`. Files up to `f7` are registered and
 * unregistered in turn, with descriptors that are closed and used again, when told to; `slow` waits until told.
 */
import { closeSync, mkdtempSync, openSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { createReadyMap, setReady } from '../../src/cache/ready-map.ts';
import { cancelled } from '../../src/fetch/gate.ts';
import type { Attributes, FileSystem } from '../../src/fuse/driver.ts';
import { createKernelDriver } from '../../src/fuse/kernel-driver.ts';
import { mountFuse } from '../../src/mount/fuse.ts';

export const FILES = 8;
export const SIZE = 1 << 20;
const FIRST = 2 ** 20;
const SLOW = FIRST + 100;

const [directory, life] = process.argv.slice(2);
const inherited = life === 'second';
// Beside the mount point: the test removes both.
const cache = mkdtempSync(join(dirname(directory), 'cache-'));
const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);
const releases = new Set<() => void>();
let interrupted = 0;

const attributes = (ino: number, mode: number, size: number): Attributes => ({
  ino,
  mode,
  nlink: 1,
  uid: 0,
  gid: 0,
  rdev: 0,
  size,
  mtime: 0,
  mtimeNs: 0,
});
const name = (ino: number) => (ino === SLOW ? 'slow' : `f${ino - FIRST}`);
const inodes = [...Array.from({ length: FILES }, (_, n) => FIRST + n), SLOW];

const fileSystem: FileSystem = {
  lookup(parent, wanted) {
    const ino = parent === 1 ? inodes.find((one) => name(one) === Buffer.from(wanted).toString()) : undefined;
    return ino === undefined ? undefined : attributes(ino, 0o100444, SIZE);
  },
  getattr: (ino) =>
    ino === 1 ? attributes(1, 0o40555, 0) : inodes.includes(ino) ? attributes(ino, 0o100444, SIZE) : undefined,
  readdir(ino, from, visit) {
    for (let i = from; ino === 1 && i < inodes.length; i++) {
      const entry = { name: Buffer.from(name(inodes[i])), ino: inodes[i], type: 0o100000, next: i + 1 };
      if (!visit(entry)) break;
    }
    return ino === 1;
  },
  async read([{ ino, length }], signal) {
    if (ino !== SLOW) return [Buffer.alloc(length, ino - FIRST)];
    say({ waiting: true });
    await new Promise<void>((resolve, reject) => {
      releases.add(resolve);
      signal.addEventListener('abort', () => {
        interrupted++;
        reject(cancelled());
      });
    });
    return [Buffer.alloc(length, 0x5a)];
  },
  reached() {},
};

if (!inherited) await mountFuse(3, directory);
const driver = createKernelDriver({ fuseFd: 3, threads: 3, inherited, log: () => {}, onEnd: () => process.exit(0) });
await driver.start(fileSystem);
say({ up: true });

/** Opens, registers, unregisters and closes files as fast as it goes, so that descriptors change their meaning. */
async function churn(): Promise<number> {
  for (let n = 0; n < FILES; n++) writeFileSync(join(cache, String(n)), Buffer.alloc(SIZE, n));
  const end = Date.now() + 2000;
  let rounds = 0;
  for (; Date.now() < end; rounds++) {
    const open = inodes.slice(0, FILES).filter(() => Math.random() < 0.6);
    const registered = open.map((ino) => {
      const fd = openSync(join(cache, String(ino - FIRST)), 'r');
      const ready = createReadyMap(SIZE);
      setReady(ready, 0, Math.random() < 0.5 ? SIZE : SIZE / 2);
      driver.register({ ino, size: SIZE, fd, ready });
      return { ino, fd };
    });
    await sleep(Math.random() * 3);
    for (const { ino, fd } of registered.sort(() => Math.random() - 0.5)) {
      await driver.unregister(ino);
      closeSync(fd);
    }
  }
  return rounds;
}

/** Answers that fit no request. @returns how many of them the kernel refused */
function noise(): number {
  let refused = 0;
  for (const bytes of [Buffer.alloc(7), Buffer.alloc(16), Buffer.alloc(16, 0xff), Buffer.alloc(4096, 1)])
    try {
      writeSync(3, bytes);
    } catch {
      refused++;
    }
  return refused;
}

/**
 * FUSE_NOTIFY_INVAL_ENTRY (fuse.h) for every name, again and again: the kernel drops it and forgets the inode. On a thread
 * of its own: the kernel takes a lock for it that a lookup holds which waits for this thread.
 */
function forget(): void {
  const messages = inodes.map((ino) => {
    const text = Buffer.from(`${name(ino)}\0`);
    const bytes = Buffer.alloc(32 + text.length);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeInt32LE(3, 4);
    bytes.writeBigUInt64LE(1n, 16);
    bytes.writeUInt32LE(text.length - 1, 24);
    text.copy(bytes, 32);
    return bytes;
  });
  const script = `
    const { writeSync } = require('node:fs');
    const { workerData } = require('node:worker_threads');
    setInterval(() => {
      for (const bytes of workerData)
        try { writeSync(3, bytes); } catch (error) { if (error.code !== 'ENOENT') throw error; }
    }, 1);`;
  new Worker(script, { eval: true, workerData: messages });
}

for await (const line of createInterface({ input: process.stdin })) {
  if (line === 'churn') say({ rounds: await churn() });
  else if (line === 'noise') say({ refused: noise() });
  else if (line === 'forget') forget();
  else if (line === 'release') for (const release of releases) release();
  else if (line === 'statistics') say({ ...driver.statistics(), interrupted });
}
rmSync(cache, { recursive: true, force: true });
