import { writeSync, writevSync } from 'node:fs';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { closeReadyMap, openReadyMap } from '../cache/ready-map.ts';
import { NymphError } from '../errors.ts';
import { kernelHasPassthrough } from './backing.ts';
import { type Answer, dispatch } from './dispatch.ts';
import {
  type Driver,
  type DriverStatistics,
  type Extent,
  type FileSystem,
  type RegisteredFile,
  type RegisteredTree,
  TREE_GRAIN,
} from './driver.ts';
import { grainsOf } from './forest.ts';
import {
  epochOf,
  type FromThread,
  hitBytesOf,
  hitsOf,
  registerMessage,
  STOP,
  type ThreadData,
  type ToThread,
  treeMessage,
} from './message.ts';
import { createOpens, type OpenFileStore } from './opens.ts';
import { InHeader, NOTIFY_RESEND, Op, OutHeader, opName, ReleaseIn } from './wire.ts';

export interface KernelDriverOptions {
  /** Descriptor of /dev/fuse, mounted already. */
  fuseFd: number;
  /** Number of FUSE threads, at least 1. */
  threads: number;
  /** True if another daemon may have taken requests from this descriptor before us: they are asked for again. */
  inherited: boolean;
  log: (level: 'debug' | 'info' | 'warn' | 'error', message: string, fields?: object) => void;
  /** What is open, for the next daemon; without it every file is read through us. */
  opens?: OpenFileStore;
  /** The connection has ended: unmounted, or the device failed. */
  onEnd: (error?: string) => void;
}

const { EIO, EINTR, EAGAIN } = constants.errno;
const NO_STORE: OpenFileStore = { list: () => [], put: () => {}, remove: () => {} };

/** The driver that speaks the kernel's protocol on /dev/fuse by itself, from worker threads (`thread.ts`). */
export function createKernelDriver(options: KernelDriverOptions): Driver {
  const control = new SharedArrayBuffer(4 * (1 + options.threads));
  const words = new Int32Array(control);
  const counters = new SharedArrayBuffer(16 * options.threads);
  const counts = new Float64Array(counters);
  const workers: Worker[] = [];
  const files = new Map<number, RegisteredFile>();
  const trees = new Map<number, RegisteredTree>();
  const waiting = new Map<string, AbortController>();
  const requests: Record<string, number> = {};
  let faults = 0;
  let ended = 0;
  let stopped = false;
  const opens = createOpens(options.fuseFd, options.opens ?? NO_STORE);
  let fileSystem: FileSystem;

  return { name: 'kernel', start, register, unregister, registerTree, unregisterTree, statistics, stop };

  async function start(served: FileSystem): Promise<void> {
    fileSystem = served;
    await Promise.all(Array.from({ length: options.threads }, (_, index) => startThread(index)));
    if (options.inherited) resend();
  }

  function startThread(index: number): Promise<void> {
    const passthrough = options.opens !== undefined && kernelHasPassthrough();
    const data: ThreadData = { fuseFd: options.fuseFd, index, control, counters, passthrough };
    const worker = new Worker(new URL(`./thread${import.meta.url.slice(-3)}`, import.meta.url), {
      workerData: data,
      name: `fuse-${index}`,
      // The loop makes next to no garbage: small heaps keep the daemon small.
      resourceLimits: { maxYoungGenerationSizeMb: 1, maxOldGenerationSizeMb: 32, stackSizeMb: 1 },
    });
    workers[index] = worker;
    // Those of a daemon that starts again are registered before its threads run.
    for (const file of files.values()) worker.postMessage(registerMessage(file));
    for (const tree of trees.values()) worker.postMessage(treeMessage(tree));
    return new Promise((resolve, reject) => {
      worker.on('message', (message: FromThread) => {
        if (message.type === 'up') resolve();
        else receive(message);
      });
      worker.on('error', (error) => {
        options.log('error', 'a FUSE thread died', { thread: index, error: String(error) });
        reject(error);
        finished(String(error));
      });
    });
  }

  function finished(error?: string): void {
    // Every thread sees the same end of the connection.
    if (++ended === 1) options.onEnd(error);
  }

  function receive(message: FromThread): void {
    switch (message.type) {
      case 'read':
        count(Op.READ);
        void read(message.low, message.high, message.extents);
        return;
      case 'open':
        openFile(message);
        return;
      case 'request':
        handle(message.bytes);
        return;
      case 'failed':
        options.log('error', 'a FUSE request failed', { ...message, type: undefined, op: opName(message.op) });
        return;
      case 'reached':
        fileSystem.reached(message.ino, message.offset);
        return;
      case 'end':
        finished(message.error);
    }
  }

  function openFile({ low, high, ino, blob, size }: Extract<FromThread, { type: 'open' }>): void {
    count(Op.OPEN);
    const file = files.get(blob);
    // Passthrough gives what the local file has, whatever size we say.
    const isWhole = options.opens !== undefined && file?.size === size;
    try {
      reply(low, high, opens.open(requestNumber(low, high), ino, isWhole ? file : undefined));
    } catch (error) {
      options.log('error', 'a FUSE request failed', { op: opName(Op.OPEN), error: String(error) });
      reply(low, high, EIO);
    }
  }

  function count(op: number): void {
    const name = opName(op);
    requests[name] = (requests[name] ?? 0) + 1;
  }

  function handle(bytes: Uint8Array): void {
    const header = Buffer.from(bytes.buffer, bytes.byteOffset, InHeader.SIZE);
    const op = header.readUInt32LE(InHeader.OPCODE);
    const low = header.readUInt32LE(InHeader.UNIQUE);
    const high = header.readUInt32LE(InHeader.UNIQUE + 4);
    count(op);
    if (op === Op.INTERRUPT) {
      interrupt(bytes, low, high);
      return;
    }
    if (op === Op.RELEASE && bytes.length >= InHeader.SIZE + ReleaseIn.SIZE) {
      const body = Buffer.from(bytes.buffer, bytes.byteOffset + InHeader.SIZE, ReleaseIn.SIZE);
      opens.release(body.readUIntLE(ReleaseIn.HANDLE, 6));
    }
    let answer: Answer;
    try {
      answer = dispatch(fileSystem, bytes);
    } catch (error) {
      options.log('error', 'a FUSE request failed', { op: opName(op), error: String(error) });
      answer = EIO;
    }
    reply(low, high, answer);
  }

  async function read(low: number, high: number, extents: Extent[]): Promise<void> {
    faults++;
    const id = requestId(low, high);
    const abort = new AbortController();
    waiting.set(id, abort);
    try {
      const parts = await fileSystem.read(extents, abort.signal);
      replyData(low, high, parts);
    } catch (error) {
      // The file system logs why with the words of its own level.
      reply(low, high, error instanceof NymphError && error.code === 'cancelled' ? EINTR : EIO);
    } finally {
      waiting.delete(id);
    }
  }

  /** The reader of an earlier request wants to die (FUSE_INTERRUPT). */
  function interrupt(bytes: Uint8Array, low: number, high: number): void {
    const body = Buffer.from(bytes.buffer, bytes.byteOffset + InHeader.SIZE, 8);
    const target = waiting.get(requestId(body.readUInt32LE(0), body.readUInt32LE(4)));
    if (target !== undefined) target.abort();
    // Not seen yet, or answered already: the kernel repeats the interrupt in the first case and drops it in the second.
    else reply(low, high, EAGAIN);
  }

  function reply(low: number, high: number, answer: Answer): void {
    if (typeof answer === 'number') write([outHeader(low, high, 0, -answer)]);
    else replyData(low, high, [answer]);
  }

  function replyData(low: number, high: number, parts: Uint8Array[]): void {
    let size = 0;
    for (const part of parts) size += part.length;
    write([outHeader(low, high, size, 0), ...parts]);
  }

  function write(parts: Uint8Array[]): void {
    // What is in flight is left to the next daemon: the descriptors that it was read from may be closed by now.
    if (stopped) return;
    try {
      writevSync(options.fuseFd, parts);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      // ENOENT: the reader was killed meanwhile. ENODEV: unmounted.
      if (code !== 'ENOENT' && code !== 'ENODEV')
        options.log('error', 'the kernel refused a FUSE answer', { error: String(error) });
    }
  }

  function resend(): void {
    try {
      writeSync(options.fuseFd, outHeader(0, 0, 0, NOTIFY_RESEND));
    } catch (error) {
      options.log('warn', 'the kernel cannot repeat requests in flight (Linux before 6.9)', { error: String(error) });
    }
  }

  function register(file: RegisteredFile): void {
    files.set(file.ino, file);
    openReadyMap(file.ready);
    broadcast(registerMessage(file));
  }

  async function unregister(ino: number): Promise<void> {
    const file = files.get(ino);
    if (file === undefined) return;
    files.delete(ino);
    closeReadyMap(file.ready);
    broadcast({ type: 'unregister', ino });
    await quiesce();
  }

  function registerTree(tree: RegisteredTree): void {
    trees.set(tree.first, tree);
    broadcast(treeMessage(tree));
  }

  async function unregisterTree(first: number): Promise<void> {
    const tree = trees.get(first);
    if (tree === undefined) return;
    trees.delete(first);
    closeReadyMap(tree.present);
    broadcast({ type: 'fell', first });
    await quiesce();
    // It may be served again already, with files that are open.
    if (!trees.has(first)) opens.forget(first, first + grainsOf(tree.bytes.byteLength) * TREE_GRAIN);
  }

  function broadcast(message: ToThread): void {
    for (const worker of workers) worker.postMessage(message);
  }

  /** Waits until every request that a thread is handling now is done: later ones see the closed map. */
  async function quiesce(): Promise<void> {
    const epochs = workers.map((_, index) => Atomics.load(words, epochOf(index)));
    const busy = () =>
      epochs.some((epoch, index) => epoch % 2 !== 0 && Atomics.load(words, epochOf(index)) === epoch && ended === 0);
    while (busy()) await sleep(1);
  }

  function statistics(): DriverStatistics {
    let hits = 0;
    let hitBytes = 0;
    for (let index = 0; index < options.threads; index++) {
      hits += counts[hitsOf(index)];
      hitBytes += counts[hitBytesOf(index)];
    }
    return { requests: { ...requests }, hits, hitBytes, faults, waiting: waiting.size };
  }

  async function stop(): Promise<void> {
    stopped = true;
    Atomics.store(words, STOP, 1);
    await quiesce();
  }
}

/** The kernel marks requests that it repeats (FUSE_UNIQUE_RESEND). */
const requestNumber = (low: number, high: number) => low + (high & 0x7fff_ffff) * 2 ** 32;
const requestId = (low: number, high: number) => `${high}:${low}`;

function outHeader(low: number, high: number, size: number, error: number): Buffer {
  const header = Buffer.allocUnsafe(OutHeader.SIZE);
  header.writeUInt32LE(OutHeader.SIZE + size, OutHeader.LEN);
  header.writeInt32LE(error, OutHeader.ERROR);
  header.writeUInt32LE(low, OutHeader.UNIQUE);
  header.writeUInt32LE(high, OutHeader.UNIQUE + 4);
  return header;
}
