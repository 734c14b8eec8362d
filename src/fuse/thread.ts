/**
 * One FUSE thread: a loop of blocking reads on /dev/fuse. A read of bytes that are here is answered at once from the
 * local file, in this thread (36 µs a 4 KiB read; a hop to another thread costs twice that), and so is what a request
 * wants to know of a tree. All else is handed over, and the loop goes on, so a fault never holds up a hit.
 */
import { readSync, writeSync } from 'node:fs';
import { constants } from 'node:os';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { FIRST_RANGE } from '../cache/cache.ts';
import { attachReadyMap, isClosed, isReady, type ReadyMap, takeMark } from '../cache/ready-map.ts';
import { type Answer, dispatch } from './dispatch.ts';
import { type Extent, type Names, TREES, ZEROS } from './driver.ts';
import { createForest } from './forest.ts';
import { epochOf, type FromThread, hitBytesOf, hitsOf, STOP, type ThreadData, type ToThread } from './message.ts';
import { openAnswer } from './opens.ts';
import { replyBuffer } from './reply-buffer.ts';
import type { Tree } from './tree.ts';
import {
  InHeader,
  isAboutNames,
  isSilent,
  MAX_READ,
  Op,
  OutHeader,
  REQUEST_BUFFER,
  ReadIn,
  ReleaseIn,
} from './wire.ts';

interface ServedFile {
  size: number;
  fd: number;
  ready: ReadyMap;
}

const DRAIN_EVERY = 256;

const { fuseFd, index, control, counters, passthrough } = workerData as ThreadData;
const words = new Int32Array(control);
const counts = new Float64Array(counters);
const port = parentPort!;
const files = new Map<number, ServedFile>();
const forest = createForest();
const request = Buffer.allocUnsafeSlow(REQUEST_BUFFER);
const reply = replyBuffer();

/** Read through us, and nothing to be done when it is closed. */
const OPENED = openAnswer(0, 0);
const NOTHING = new Uint8Array(0);

const send = (message: FromThread) => port.postMessage(message);

send({ type: 'up' });
loop();

function loop(): void {
  for (let handled = 0; ; handled++) {
    let length: number;
    try {
      length = readSync(fuseFd, request, 0, REQUEST_BUFFER, null);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // ENOENT: the request was withdrawn while we took it. EINTR, EAGAIN: nothing was taken.
      if (code === 'ENOENT' || code === 'EINTR' || code === 'EAGAIN') continue;
      send({ type: 'end', error: code === 'ENODEV' ? undefined : String(error) });
      return;
    }
    // A request taken after the stop flag is left to the next daemon: the kernel resends it.
    if (Atomics.load(words, STOP) !== 0) return;
    Atomics.add(words, epochOf(index), 1);
    handle(length);
    Atomics.add(words, epochOf(index), 1);
    if (handled % DRAIN_EVERY === 0) drain();
  }
}

function handle(length: number): void {
  if (length < InHeader.SIZE || request.readUInt32LE(InHeader.LEN) !== length) return;
  const op = request.readUInt32LE(InHeader.OPCODE);
  const ino = request.readUIntLE(InHeader.NODEID, 6);
  if (isSilent(op)) return;
  if (op === Op.READ && length >= InHeader.SIZE + ReadIn.SIZE) read(ino);
  else if (op === Op.OPEN) openFile(ino);
  else if (op === Op.RELEASE && isUnkept(length)) answer(lowOf(), highOf(), NOTHING);
  else if (!isAboutNames(op) || !answerNames(op, ino, length))
    send({ type: 'request', bytes: new Uint8Array(request.subarray(0, length)) });
}

function lowOf(): number {
  return request.readUInt32LE(InHeader.UNIQUE);
}

function highOf(): number {
  return request.readUInt32LE(InHeader.UNIQUE + 4);
}

/** The handle of a RELEASE is that of {@link OPENED}. */
function isUnkept(length: number): boolean {
  return length >= InHeader.SIZE + ReleaseIn.SIZE && request.readUIntLE(InHeader.SIZE + ReleaseIn.HANDLE, 6) === 0;
}

function read(ino: number): void {
  const offset = request.readUIntLE(InHeader.SIZE + ReadIn.OFFSET, 6);
  const wanted = Math.min(request.readUInt32LE(InHeader.SIZE + ReadIn.COUNT), MAX_READ);
  const low = lowOf();
  const high = highOf();
  const found = locate(ino, offset, wanted);
  if (!Array.isArray(found)) answer(low, high, found);
  else if (!answerExtents(found, low, high)) send({ type: 'read', low, high, extents: found });
}

/**
 * An open costs a request, and so does a close. ENOSYS tells the kernel to open files alone, but for all of the connection
 * and for good, and complete files of models could never be read by it in our place: only one that cannot do so is told.
 */
function openFile(ino: number): void {
  const low = lowOf();
  const high = highOf();
  try {
    const tree = treeOf(ino);
    if (tree?.isOfFiles) {
      const size = tree.getattr(ino)?.size ?? 0;
      const found = tree.locate(ino, 0, 1);
      const blob = Array.isArray(found) && found[0]?.offset === 0 ? found[0].ino : 0;
      send({ type: 'open', low, high, ino, blob, size });
    } else answer(low, high, tree !== undefined && !passthrough ? constants.errno.ENOSYS : OPENED);
  } catch (error) {
    answer(low, high, failed(Op.OPEN, ino, error));
  }
}

/** Where a file's bytes are, or what to answer. An inode that this thread does not know is left to the main thread. */
function locate(ino: number, offset: number, length: number): Extent[] | Answer {
  try {
    const tree = treeOf(ino);
    if (tree !== undefined) return tree.locate(ino, offset, length);
  } catch (error) {
    return failed(Op.READ, ino, error);
  }
  const size = find(ino)?.size ?? Number.MAX_SAFE_INTEGER;
  return [{ ino, offset, length: Math.min(length, Math.max(0, size - offset)) }];
}

/** Answers what a tree knows; false if the inode is of none. */
function answerNames(op: number, ino: number, length: number): boolean {
  let answered: Answer;
  try {
    const names = ino === TREES && op === Op.LOOKUP ? directory() : treeOf(ino);
    if (names === undefined) return false;
    answered = dispatch(names, request.subarray(0, length));
  } catch (error) {
    answered = failed(op, ino, error);
  }
  answer(lowOf(), highOf(), answered);
  return true;
}

/** The directory of the trees, with those that came just now. */
function directory(): Names {
  drain();
  return forest.directory;
}

function treeOf(ino: number): Tree | undefined {
  if (ino < FIRST_RANGE) return undefined;
  const known = forest.treeOf(ino);
  if (known !== undefined) return known;
  drain();
  return forest.treeOf(ino);
}

function failed(op: number, ino: number, error: unknown): Answer {
  send({ type: 'failed', op, ino, error: String((error as Error).message) });
  return constants.errno.EIO;
}

/** Answers a read from the local files if every byte is here; false if it cannot. */
function answerExtents(extents: Extent[], low: number, high: number): boolean {
  const from = extents.map(({ ino }) => find(ino));
  let used = OutHeader.SIZE;
  for (const [i, { ino, offset, length }] of extents.entries()) {
    if (ino === ZEROS) {
      reply.fill(0, used, used + length);
      used += length;
      continue;
    }
    const file = from[i];
    if (file === undefined || !isReady(file.ready, offset, length)) return false;
    if (length > 0) {
      try {
        if (readSync(file.fd, reply, used, length, offset) !== length) return false;
      } catch {
        return false; // The main thread reads it again and has the means to report and to repair.
      }
    }
    used += length;
  }
  putHeader(low, high, used, 0);
  if (!write(reply.subarray(0, used))) return false;
  counts[hitsOf(index)]++;
  counts[hitBytesOf(index)] += used - OutHeader.SIZE;
  for (const [i, { ino, offset, length }] of extents.entries()) {
    if (ino !== ZEROS && takeMark(from[i]!.ready, offset, length)) send({ type: 'reached', ino, offset });
  }
  return true;
}

function answer(low: number, high: number, answered: Answer): void {
  if (typeof answered === 'number') {
    putHeader(low, high, OutHeader.SIZE, -answered);
    write(reply.subarray(0, OutHeader.SIZE));
    return;
  }
  putHeader(low, high, OutHeader.SIZE + answered.length, 0);
  reply.set(answered, OutHeader.SIZE);
  write(reply.subarray(0, OutHeader.SIZE + answered.length));
}

function putHeader(low: number, high: number, length: number, error: number): void {
  reply.writeUInt32LE(length, OutHeader.LEN);
  reply.writeInt32LE(error, OutHeader.ERROR);
  reply.writeUInt32LE(low, OutHeader.UNIQUE);
  reply.writeUInt32LE(high, OutHeader.UNIQUE + 4);
}

/** False if the kernel did not take it. ENOENT: the reader was killed meanwhile, which is as good as an answer. */
function write(bytes: Buffer): boolean {
  try {
    writeSync(fuseFd, bytes);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ENOENT';
  }
  return true;
}

function find(ino: number): ServedFile | undefined {
  let file = files.get(ino);
  if (file === undefined) {
    drain();
    file = files.get(ino);
  }
  // Closed: its descriptor may soon belong to another file. The flag is set before the wait for our epoch begins.
  if (file !== undefined && isClosed(file.ready)) {
    files.delete(ino);
    return undefined;
  }
  return file;
}

function drain(): void {
  for (;;) {
    const received = receiveMessageOnPort(port);
    if (received === undefined) return;
    const message = received.message as ToThread;
    switch (message.type) {
      case 'register':
        files.set(message.ino, { size: message.size, fd: message.fd, ready: attachReadyMap(message.ready) });
        break;
      case 'unregister':
        files.delete(message.ino);
        break;
      case 'tree':
        forest.add(message.tree);
        break;
      case 'fell':
        forest.remove(message.first);
    }
  }
}
