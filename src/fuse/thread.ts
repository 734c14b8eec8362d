/**
 * One FUSE thread: a loop of blocking reads on /dev/fuse. A read of bytes that are here is answered at once from the
 * local file, in this thread (36 µs a 4 KiB read; a hop to another thread costs twice that). All else is handed over,
 * and the loop goes on, so a fault never holds up a hit.
 */
import { readSync, writeSync } from 'node:fs';
import { parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { attachReadyMap, isClosed, isReady, type ReadyMap, takeMark } from '../cache/ready-map.ts';
import { epochOf, type FromThread, hitBytesOf, hitsOf, STOP, type ThreadData, type ToThread } from './message.ts';
import { InHeader, MAX_READ, Op, OutHeader, REQUEST_BUFFER, ReadIn } from './wire.ts';

interface ServedFile {
  size: number;
  fd: number;
  ready: ReadyMap;
}

const DRAIN_EVERY = 256;

const { fuseFd, index, control, counters } = workerData as ThreadData;
const words = new Int32Array(control);
const counts = new Float64Array(counters);
const port = parentPort!;
const files = new Map<number, ServedFile>();
const request = Buffer.allocUnsafeSlow(REQUEST_BUFFER);
const reply = Buffer.allocUnsafeSlow(OutHeader.SIZE + MAX_READ);

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
  if (request.readUInt32LE(InHeader.OPCODE) !== Op.READ || length < InHeader.SIZE + ReadIn.SIZE) {
    send({ type: 'request', bytes: new Uint8Array(request.subarray(0, length)) });
    return;
  }
  const ino = request.readUIntLE(InHeader.NODEID, 6);
  const offset = request.readUIntLE(InHeader.SIZE + ReadIn.OFFSET, 6);
  const wanted = Math.min(request.readUInt32LE(InHeader.SIZE + ReadIn.COUNT), MAX_READ);
  const low = request.readUInt32LE(InHeader.UNIQUE);
  const high = request.readUInt32LE(InHeader.UNIQUE + 4);
  const file = find(ino);
  if (file === undefined || !answer(file, low, high, offset, Math.min(wanted, file.size - offset))) {
    send({ type: 'read', low, high, ino, offset, length: wanted });
    return;
  }
  if (takeMark(file.ready, offset, wanted)) send({ type: 'reached', ino, offset });
}

/** Answers from the local file if every byte is here; false if it cannot. */
function answer(file: ServedFile, low: number, high: number, offset: number, count: number): boolean {
  if (count < 0 || !isReady(file.ready, offset, count)) return false;
  if (count > 0) {
    try {
      if (readSync(file.fd, reply, OutHeader.SIZE, count, offset) !== count) return false;
    } catch {
      return false; // The main thread reads it again and has the means to report and to repair.
    }
  }
  reply.writeUInt32LE(OutHeader.SIZE + count, OutHeader.LEN);
  reply.writeInt32LE(0, OutHeader.ERROR);
  reply.writeUInt32LE(low, OutHeader.UNIQUE);
  reply.writeUInt32LE(high, OutHeader.UNIQUE + 4);
  try {
    writeSync(fuseFd, reply, 0, OutHeader.SIZE + count, null);
  } catch (error) {
    // ENOENT: the reader was killed meanwhile. Anything else must not kill the loop: the main thread tries once more.
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') return false;
  }
  counts[hitsOf(index)]++;
  counts[hitBytesOf(index)] += count;
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
    if (message.type === 'register')
      files.set(message.ino, { size: message.size, fd: message.fd, ready: attachReadyMap(message.ready) });
    else files.delete(message.ino);
  }
}
