/** The driver of /dev/fuse against a kernel that is played by this test, at the other end of a socket pair. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, read as readCallback, rmSync, writeFileSync, writeSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import koffi from 'koffi';
import { FIRST_RANGE } from '../../src/cache/cache.ts';
import { createReadyMap, setReady } from '../../src/cache/ready-map.ts';
import { NymphError } from '../../src/errors.ts';
import { imageOfFiles } from '../../src/formats/files/image.ts';
import type { Driver, FileSystem } from '../../src/fuse/driver.ts';
import { createKernelDriver } from '../../src/fuse/kernel-driver.ts';
import type { OpenFile, OpenFileStore } from '../../src/fuse/opens.ts';
import { openTree } from '../../src/fuse/tree.ts';
import { InHeader, MAX_READ, NOTIFY_RESEND, Op, OutHeader, ReadIn } from '../../src/fuse/wire.ts';
import { objectOf } from '../../src/image/files.ts';

const AF_UNIX = 1;
const SOCK_SEQPACKET = 5;
const socketpair = koffi
  .load('libc.so.6')
  .func('int socketpair(int domain, int type, int protocol, _Out_ int *fds)') as (...args: unknown[]) => number;
const read = promisify(readCallback);
const FILE = 1 << 20;
const RESENT = 1n << 63n;

interface Answer {
  unique: bigint;
  error: number;
  data: Buffer;
}

interface Kernel {
  driver: Driver;
  file: Buffer;
  /** Makes blocks of the file ready. */
  ready(offset: number, length: number): void;
  send(op: number, unique: bigint, body?: Buffer, ino?: number): void;
  sendRead(unique: bigint, offset: number, length: number): void;
  answer(): Promise<Answer>;
  /** Answers that come within `ms`. */
  quiet(ms: number): Promise<boolean>;
}

async function play(
  t: TestContext,
  fileRead: FileSystem['read'],
  { inherited = false, opens }: { inherited?: boolean; opens?: OpenFileStore } = {},
): Promise<Kernel> {
  const fds = [0, 0];
  assert.equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
  const [kernel, device] = fds;
  const directory = mkdtempSync(join(tmpdir(), 'nymph-driver-'));
  const path = join(directory, 'data');
  const file = randomBytes(1 << 16);
  writeFileSync(path, file);
  const fd = openSync(path, 'r');
  const map = createReadyMap(file.length);
  const threads = 2;
  const driver = createKernelDriver({ fuseFd: device, threads, inherited, opens, log: () => {}, onEnd: () => {} });
  const nothing = () => undefined;
  driver.register({ ino: FILE, size: file.length, fd, ready: map });
  await driver.start({ lookup: nothing, getattr: nothing, readdir: () => false, reached: nothing, read: fileRead });

  const send = (op: number, unique: bigint, body = Buffer.alloc(0), ino = FILE) => {
    const bytes = Buffer.alloc(InHeader.SIZE + body.length);
    bytes.writeUInt32LE(bytes.length, InHeader.LEN);
    bytes.writeUInt32LE(op, InHeader.OPCODE);
    bytes.writeBigUInt64LE(unique, InHeader.UNIQUE);
    bytes.writeBigUInt64LE(BigInt(ino), InHeader.NODEID);
    body.copy(bytes, InHeader.SIZE);
    writeSync(kernel, bytes);
  };
  let next: Promise<Answer> | undefined;
  const receive = async (): Promise<Answer> => {
    const buffer = Buffer.alloc(OutHeader.SIZE + MAX_READ);
    const { bytesRead } = await read(kernel, buffer, 0, buffer.length, null);
    assert.equal(buffer.readUInt32LE(OutHeader.LEN), bytesRead);
    return {
      unique: buffer.readBigUInt64LE(OutHeader.UNIQUE),
      error: buffer.readInt32LE(OutHeader.ERROR),
      data: buffer.subarray(OutHeader.SIZE, bytesRead),
    };
  };
  t.after(async () => {
    await driver.stop();
    // Each thread takes one request more, and ends.
    for (let i = 0; i < threads; i++) send(Op.STATFS, 1n);
    await sleep(50);
    // For the read that waits here.
    writeSync(device, Buffer.from([OutHeader.SIZE, 0, 0, 0, ...Buffer.alloc(12)]));
    await next?.catch(() => {});
    for (const each of [kernel, device, fd]) closeSync(each);
    rmSync(directory, { recursive: true });
  });
  return {
    driver,
    file,
    ready: (offset, length) => setReady(map, offset, length),
    send,
    sendRead(unique, offset, length) {
      const body = Buffer.alloc(ReadIn.SIZE);
      body.writeBigUInt64LE(BigInt(offset), ReadIn.OFFSET);
      body.writeUInt32LE(length, ReadIn.COUNT);
      send(Op.READ, unique, body);
    },
    answer() {
      const answer = next ?? receive();
      next = undefined;
      return answer;
    },
    async quiet(ms) {
      next ??= receive();
      return Promise.race([next.then(() => false), sleep(ms, true)]);
    },
  };
}

const never: FileSystem['read'] = (_extents, signal) =>
  new Promise((_resolve, reject) => {
    signal.addEventListener('abort', () => reject(new NymphError('cancelled', 'interrupted')));
  });

test('bytes that are here are answered, others are asked for; ids come back whole', async (t) => {
  const asked: number[][] = [];
  const kernel = await play(t, async ([{ ino, offset, length }]) => {
    asked.push([ino, offset, length]);
    return [Buffer.from('from '), Buffer.from('afar')];
  });
  kernel.ready(4096, 8192);
  kernel.sendRead(0xffff_fffen, 5000, 6000);
  const hit = await kernel.answer();
  assert.deepEqual([hit.unique, hit.error], [0xffff_fffen, 0]);
  assert.deepEqual(hit.data, kernel.file.subarray(5000, 11_000));
  kernel.sendRead(RESENT | 0x1_0000_0002n, 4000, 200);
  const fault = await kernel.answer();
  assert.deepEqual([fault.unique, fault.error, fault.data.toString()], [RESENT | 0x1_0000_0002n, 0, 'from afar']);
  assert.deepEqual(asked, [[FILE, 4000, 200]]);
  // Behind the end of the file there is nothing to wait for.
  kernel.ready(0, kernel.file.length);
  kernel.sendRead(4n, kernel.file.length, 4096);
  assert.equal((await kernel.answer()).data.length, 0);
});

test('an interrupted reader gets EINTR; an interrupt that comes too early is asked for again', async (t) => {
  const kernel = await play(t, never);
  const interrupt = (unique: bigint) => {
    const body = Buffer.alloc(8);
    body.writeBigUInt64LE(unique);
    kernel.send(Op.INTERRUPT, unique | 1n, body);
  };
  interrupt(RESENT | 2n);
  assert.deepEqual(await kernel.answer(), {
    unique: RESENT | 3n,
    error: -constants.errno.EAGAIN,
    data: Buffer.alloc(0),
  });
  kernel.sendRead(RESENT | 2n, 0, 4096);
  assert.equal(await kernel.quiet(50), true);
  assert.equal(kernel.driver.statistics().waiting, 1);
  interrupt(RESENT | 2n);
  assert.deepEqual(await kernel.answer(), {
    unique: RESENT | 2n,
    error: -constants.errno.EINTR,
    data: Buffer.alloc(0),
  });
  assert.equal(kernel.driver.statistics().waiting, 0);
});

test('a file of a model that is opened again by a repeated request is open once', async (t) => {
  const kept = new Map<number, OpenFile>();
  const opens: OpenFileStore = {
    list: () => [...kept.values()],
    put: (file) => void kept.set(file.handle, file),
    remove: (handle) => void kept.delete(handle),
  };
  const kernel = await play(t, never, { opens });
  const object = objectOf({ size: 10, place: 'a', location: 'f' });
  const content = { kind: 'file' as const, size: 10, object: 0, offset: 0 };
  const file = { path: 'f', mode: 0o644, uid: 0, gid: 0, mtime: 0, mtimeNs: 0, content };
  const list = { format: 'artifact' as const, objects: [object], files: [file], warnings: [] };
  const { bootstrap } = imageOfFiles(list, 'a list');
  const bytes = new SharedArrayBuffer(bootstrap.length);
  new Uint8Array(bytes).set(bootstrap);
  const present = createReadyMap(bootstrap.length);
  setReady(present, 0, bootstrap.length);
  const data = { first: FIRST_RANGE, fd: -1, bytes, blobs: [FILE], isOfFiles: true };
  const tree = openTree({ ...data, present: present.words.buffer });
  const found = tree.lookup(tree.root().ino, Buffer.from('f'));
  assert.ok(typeof found === 'object');
  kernel.driver.registerTree({ ...data, present });
  const handle = async (unique: bigint) => {
    kernel.send(Op.OPEN, unique, Buffer.alloc(8), found.ino);
    const { data, error } = await kernel.answer();
    assert.equal(error, 0);
    return data.readBigUInt64LE(0);
  };
  const first = await handle(6n);
  assert.equal(await handle(RESENT | 6n), first);
  assert.notEqual(await handle(8n), first);
  assert.equal(kept.size, 2);
});

test('one that takes over asks for what was in flight', async (t) => {
  const kernel = await play(t, never, { inherited: true });
  assert.deepEqual(await kernel.answer(), { unique: 0n, error: NOTIFY_RESEND, data: Buffer.alloc(0) });
});

test('after a stop nothing is answered: descriptors may mean other files, and the kernel asks the next daemon', async (t) => {
  const { promise, resolve } = Promise.withResolvers<Uint8Array[]>();
  const kernel = await play(t, () => promise);
  kernel.sendRead(2n, 0, 4096);
  assert.equal(await kernel.quiet(50), true);
  await kernel.driver.stop();
  resolve([Buffer.alloc(4096)]);
  assert.equal(await kernel.quiet(50), true);
});
