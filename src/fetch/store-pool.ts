import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import type { Priority } from './gate.ts';
import type { FrameResult, StoreJob } from './store-message.ts';

/** Threads that decode, verify and write what has arrived. They are started when needed and end when idle. */
export interface StorePool {
  /** Starts a thread if there is none: its 30 ms should not fall on the first fault. */
  warm(): void;
  store(job: StoreJob, priority: Priority): Promise<FrameResult[]>;
  /** Stored bytes that wait or are being worked on. */
  readonly backlog: number;
  /** Resolves when the backlog is below `bytes`. */
  below(bytes: number): Promise<void>;
  close(): Promise<void>;
}

interface Task {
  job: StoreJob;
  bytes: number;
  resolve: (results: FrameResult[]) => void;
  reject: (error: unknown) => void;
}

interface Thread {
  worker: Worker;
  task: Task | undefined;
  idle: NodeJS.Timeout | undefined;
}

/** A thread costs 10 MB: it goes when nothing was fetched for this long. */
const IDLE_MS = 5_000;
const MOST_THREADS = 8;

export function createStorePool(width = Math.min(availableParallelism(), MOST_THREADS)): StorePool {
  const threads: Thread[] = [];
  const queues: Record<Priority, Task[]> = { demand: [], prefetch: [] };
  const waiters: { bytes: number; resolve: () => void }[] = [];
  let backlog = 0;
  let closed = false;

  function store(job: StoreJob, priority: Priority): Promise<FrameResult[]> {
    const { promise, resolve, reject } = Promise.withResolvers<FrameResult[]>();
    const task: Task = { job, bytes: job.stored.byteLength, resolve, reject };
    backlog += task.bytes;
    queues[priority].push(task);
    next();
    return promise;
  }

  function next(): void {
    while (queues.demand.length + queues.prefetch.length > 0) {
      const thread = threads.find((candidate) => candidate.task === undefined) ?? start();
      if (thread === undefined) return;
      const task = (queues.demand.shift() ?? queues.prefetch.shift())!;
      thread.task = task;
      clearTimeout(thread.idle);
      thread.worker.ref();
      thread.worker.postMessage(task.job, [task.job.stored]);
    }
  }

  function start(): Thread | undefined {
    if (threads.length >= width || closed) return undefined;
    const worker = new Worker(new URL(`./store-thread${import.meta.url.slice(-3)}`, import.meta.url), {
      name: 'store',
      resourceLimits: { maxYoungGenerationSizeMb: 4, maxOldGenerationSizeMb: 64, stackSizeMb: 1 },
    });
    const thread: Thread = { worker, task: undefined, idle: undefined };
    worker.on('message', (results: FrameResult[]) => finish(thread, (task) => task.resolve(results)));
    const ended = (why: string, cause?: unknown) => {
      const at = threads.indexOf(thread);
      if (at >= 0) threads.splice(at, 1);
      // A thread that died with a task (out of memory) must not leave its waiters behind.
      finish(thread, (task) => task.reject(new NymphError('internal', why, { cause, retryable: true })));
    };
    worker.on('error', (error) => ended(`a store thread died: ${error}`, error));
    worker.on('exit', () => ended('a store thread ended'));
    threads.push(thread);
    return thread;
  }

  function finish(thread: Thread, settle: (task: Task) => void): void {
    const task = thread.task;
    if (task === undefined) return;
    thread.task = undefined;
    backlog -= task.bytes;
    rest(thread);
    settle(task);
    for (let i = waiters.length - 1; i >= 0; i--) if (backlog < waiters[i].bytes) waiters.splice(i, 1)[0].resolve();
    next();
  }

  function rest(thread: Thread): void {
    thread.worker.unref();
    thread.idle = setTimeout(() => void retire(thread), IDLE_MS).unref();
  }

  async function retire(thread: Thread): Promise<void> {
    clearTimeout(thread.idle);
    const at = threads.indexOf(thread);
    if (at >= 0) threads.splice(at, 1);
    await thread.worker.terminate();
  }

  function warm(): void {
    const thread = threads.length === 0 ? start() : undefined;
    if (thread !== undefined) rest(thread);
  }

  return {
    warm,
    store,
    get backlog() {
      return backlog;
    },
    below(bytes) {
      if (backlog < bytes) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ bytes, resolve }));
    },
    async close() {
      closed = true;
      await Promise.all([...threads].map(retire));
    },
  };
}
