import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import { type ErrorCode, NymphError } from '../errors.ts';
import type { Job, JobAnswer, JobRequest, WarmRequest } from './job.ts';

/** Demand goes before prefetch everywhere. */
export type Priority = 'demand' | 'prefetch';

export interface RunOptions {
  /** `demand` by default. */
  priority?: Priority;
  /** Bytes of the input, for the backlog. */
  bytes?: number;
  /** Buffers of the input that are handed over instead of copied. */
  transfer?: ArrayBuffer[];
}

/**
 * Threads for what would hold up the main thread: decoding and verifying, reading bootstraps, checking the cache. One
 * stays, because a thread takes 50 ms of CPU to start, which would fall on the first fault; the others come with the
 * work and go when idle, because each takes 10 MB.
 */
export interface ThreadPool {
  /** Starts the thread that stays; it and all others load the modules of these jobs before they are needed. */
  warm(...jobs: Job<never, unknown>[]): void;
  /** Runs a job. Rejects with what it threw; retryable if the thread itself died. */
  run<Input, Output>(job: Job<Input, Output>, input: Input, options?: RunOptions): Promise<Output>;
  /** Bytes of inputs that wait or are being worked on. */
  readonly backlog: number;
  /** Resolves when the backlog is below `bytes`. */
  below(bytes: number): Promise<void>;
  /** Ends the threads; work under way is rejected. */
  close(): Promise<void>;
}

interface Task {
  request: JobRequest;
  bytes: number;
  transfer: ArrayBuffer[];
  resolve: (output: unknown) => void;
  reject: (error: unknown) => void;
}

interface Thread {
  worker: Worker;
  /** False while it starts: work waits for whichever thread is free first, rather than for this one. */
  up: boolean;
  /** Resolves when it has started, or died. */
  started: Promise<void>;
  task: Task | undefined;
  idle: NodeJS.Timeout | undefined;
}

const IDLE_MS = 5_000;
export const MOST_THREADS = 8;

export function createThreadPool(width = Math.min(availableParallelism(), MOST_THREADS)): ThreadPool {
  const threads: Thread[] = [];
  const queues: Record<Priority, Task[]> = { demand: [], prefetch: [] };
  const waiters: { bytes: number; resolve: () => void }[] = [];
  const modules = new Set<string>();
  let backlog = 0;
  let closed = false;

  function run<Input, Output>(job: Job<Input, Output>, input: Input, options: RunOptions = {}): Promise<Output> {
    const { priority = 'demand', bytes = 0, transfer = [] } = options;
    if (closed) return Promise.reject(new NymphError('cancelled', 'the threads are being ended'));
    return new Promise<unknown>((resolve, reject) => {
      backlog += bytes;
      queues[priority].push({ request: { module: job.module, input }, bytes, transfer, resolve, reject });
      next();
    }) as Promise<Output>;
  }

  function next(): void {
    while (queues.demand.length + queues.prefetch.length > 0) {
      const thread = threads.find((candidate) => candidate.up && candidate.task === undefined);
      if (thread === undefined) {
        if (threads.every((candidate) => candidate.up)) start();
        return;
      }
      const task = (queues.demand.shift() ?? queues.prefetch.shift())!;
      thread.task = task;
      clearTimeout(thread.idle);
      thread.worker.ref();
      thread.worker.postMessage(task.request, task.transfer);
    }
  }

  function start(): void {
    if (threads.length >= width || closed) return;
    const worker = new Worker(new URL(`./thread${import.meta.url.slice(-3)}`, import.meta.url), {
      name: 'work',
      // Little of what the jobs hold is on their heap: tables and chunks are buffers outside of it.
      resourceLimits: { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 512, stackSizeMb: 1 },
    });
    const { promise: started, resolve: settle } = Promise.withResolvers<void>();
    const thread: Thread = { worker, up: false, started, task: undefined, idle: undefined };
    worker.on('message', (answer: JobAnswer) => {
      if (answer.type !== 'up') finish(thread, answer);
      else if (!thread.up) {
        thread.up = true;
        settle();
        rest(thread);
        next();
      }
    });
    worker.on('error', (error) => died(thread, error));
    worker.on('exit', () => {
      settle();
      died(thread, 'it ended');
    });
    threads.push(thread);
    worker.postMessage({ modules: [...modules] } satisfies WarmRequest);
  }

  /** A thread that dies with a task (out of memory) must not leave its waiters behind. */
  function died(thread: Thread, why: unknown): void {
    const at = threads.indexOf(thread);
    if (at >= 0) threads.splice(at, 1);
    clearTimeout(thread.idle);
    const message = `a work thread died: ${why}`;
    // One that cannot even start would be started for ever.
    if (!thread.up) rejectQueued(new NymphError('internal', message, { retryable: true }));
    finish(thread, { type: 'failed', code: 'internal', message, retryable: true });
  }

  function rejectQueued(error: NymphError): void {
    for (const task of [...queues.demand.splice(0), ...queues.prefetch.splice(0)]) {
      backlog -= task.bytes;
      task.reject(error);
    }
    wake();
  }

  function wake(): void {
    for (let i = waiters.length - 1; i >= 0; i--) if (backlog < waiters[i].bytes) waiters.splice(i, 1)[0].resolve();
  }

  function finish(thread: Thread, answer: Exclude<JobAnswer, { type: 'up' }>): void {
    const { task } = thread;
    if (task === undefined) {
      next();
      return;
    }
    thread.task = undefined;
    backlog -= task.bytes;
    if (threads.includes(thread)) rest(thread);
    if (answer.type === 'done') task.resolve(answer.output);
    else task.reject(new NymphError(answer.code as ErrorCode, answer.message, answer));
    wake();
    next();
  }

  function rest(thread: Thread): void {
    thread.worker.unref();
    thread.idle = setTimeout(() => {
      if (threads.length > 1) void end(thread);
    }, IDLE_MS).unref();
  }

  async function end(thread: Thread): Promise<void> {
    clearTimeout(thread.idle);
    const at = threads.indexOf(thread);
    if (at >= 0) threads.splice(at, 1);
    // A thread that is ended while it loads an addon takes the whole process with it (`napi_throw`).
    await thread.started;
    await thread.worker.terminate();
  }

  return {
    run,
    warm(...jobs) {
      const fresh = jobs.map(({ module }) => module).filter((module) => !modules.has(module));
      for (const module of fresh) modules.add(module);
      // One that some early job has started knows of none.
      if (fresh.length > 0)
        for (const { worker } of threads) worker.postMessage({ modules: fresh } satisfies WarmRequest);
      if (threads.length === 0) start();
    },
    get backlog() {
      return backlog;
    },
    below(bytes) {
      if (backlog < bytes) return Promise.resolve();
      return new Promise((resolve) => waiters.push({ bytes, resolve }));
    },
    async close() {
      closed = true;
      rejectQueued(new NymphError('cancelled', 'the threads are being ended'));
      await Promise.all([...threads].map(end));
    },
  };
}
