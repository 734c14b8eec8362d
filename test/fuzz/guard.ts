/** The process of one target: watches over the thread that looks for defects, which may hang or eat memory. */
import { Worker } from 'node:worker_threads';
import { createShared, type Job, LENGTH, type Message, RUNS } from './messages.ts';

const LOOK_EVERY = 250;
/** Processor time of one run, and time in which one must end, ms. */
const MOST_TIME = 10_000;
const MOST_WAITING = 120_000;
const MOST_MEMORY = 1.5 * 2 ** 30;
const HEAP_MIB = 768;

const send = (message: Message) => process.send!(message);

process.once('message', (job: Job) => {
  const shared = createShared();
  const worker = new Worker(new URL('./loop.ts', import.meta.url), {
    workerData: { job, shared },
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MIB },
  });
  let seen = 0;
  let since = { cpu: process.cpuUsage(), time: Date.now() };

  const defect = (name: string, detail = name) => {
    const input = Uint8Array.from(shared.input.subarray(0, shared.words[LENGTH]));
    send({ type: 'defect', name, detail, input });
  };
  /** Ends everything: a thread that is in native code cannot be ended. */
  const end = (status: number) => process.disconnect() ?? process.exit(status);

  const fail = (name: string, detail?: string) => {
    clearInterval(look);
    defect(name, detail);
    setTimeout(() => end(1), 500);
  };

  const look = setInterval(() => {
    const runs = Atomics.load(shared.words, RUNS);
    if (runs !== seen) since = { cpu: process.cpuUsage(), time: Date.now() };
    seen = runs;
    const { user, system } = process.cpuUsage(since.cpu);
    const hangs = (user + system) / 1000 > MOST_TIME || Date.now() - since.time > MOST_WAITING;
    const name = process.memoryUsage.rss() > MOST_MEMORY ? 'too much memory' : hangs ? 'no end' : undefined;
    if (name !== undefined && runs > 0) fail(name);
  }, LOOK_EVERY);

  let ended = false;
  worker.on('message', (message: Message) => {
    send(message);
    if (message.type !== 'done') return;
    ended = true;
    clearInterval(look);
    setTimeout(() => end(0), 100);
  });
  worker.on('error', (error: Error) => {
    ended = true;
    fail(`the thread ended: ${error.message}`, error.stack);
  });
  worker.on('exit', () => {
    if (!ended) fail('no end, and nothing that is waited for');
  });
});
