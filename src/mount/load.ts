import { Worker } from 'node:worker_threads';
import { type ErrorCode, NymphError } from '../errors.ts';
import { cancelled } from '../fetch/gate.ts';
import type { FromLoader, LoadedImage, LoadInput, Range, ToLoader } from './load-message.ts';

/** Loader threads: one for each image that is being read; an idle one stays a while for the next. */
export interface Loader {
  /** Starts a thread if none is idle, so that the network hides its start. */
  warm(): void;
  /**
   * @param fetchRange reads a range of a blob's object, for bootstraps inside blobs and for batches.
   * @throws NymphError `corrupt` or `unsupported`, naming structure, field and offset.
   */
  load(input: LoadInput, fetchRange: (range: Range) => Promise<Uint8Array>, signal: AbortSignal): Promise<LoadedImage>;
  close(): Promise<void>;
}

interface Thread {
  worker: Worker;
  idle: NodeJS.Timeout | undefined;
}

const IDLE_MS = 5_000;

export function createLoader(): Loader {
  const idle = new Set<Thread>();

  function start(): Thread {
    const worker = new Worker(new URL(`./load-thread${import.meta.url.slice(-3)}`, import.meta.url), { name: 'load' });
    const thread: Thread = { worker, idle: undefined };
    worker.on('exit', () => idle.delete(thread));
    // Between loads nobody else listens; the exit that follows takes the thread out.
    worker.on('error', () => {});
    return thread;
  }

  function rest(thread: Thread): void {
    idle.add(thread);
    thread.worker.unref();
    thread.idle = setTimeout(() => void thread.worker.terminate(), IDLE_MS).unref();
  }

  function take(): Thread {
    const [thread = start()] = idle;
    idle.delete(thread);
    clearTimeout(thread.idle);
    thread.worker.ref();
    return thread;
  }

  async function load(
    input: LoadInput,
    fetchRange: (range: Range) => Promise<Uint8Array>,
    signal: AbortSignal,
  ): Promise<LoadedImage> {
    if (signal.aborted) throw cancelled();
    const thread = take();
    try {
      const loaded = await converse(thread.worker, input, fetchRange, signal);
      rest(thread);
      return loaded;
    } catch (error) {
      // It may be in the middle of something: not for the next one.
      await thread.worker.terminate();
      throw error;
    }
  }

  return {
    warm() {
      if (idle.size === 0) rest(start());
    },
    load,
    async close() {
      await Promise.all([...idle].map((thread) => thread.worker.terminate()));
    },
  };
}

function converse(
  worker: Worker,
  input: LoadInput,
  fetchRange: (range: Range) => Promise<Uint8Array>,
  signal: AbortSignal,
): Promise<LoadedImage> {
  const say = (message: ToLoader) => worker.postMessage(message);
  return new Promise<LoadedImage>((resolve, reject) => {
    const abort = () => end(() => reject(cancelled()));
    const died = (error: Error) =>
      end(() => reject(new NymphError('internal', `the loader died: ${error}`, { cause: error })));
    const ended = () => end(() => reject(new NymphError('internal', 'the loader ended')));
    const receive = (message: FromLoader) => {
      if (message.type === 'done') end(() => resolve(message.loaded));
      else if (message.type === 'error')
        end(() => reject(new NymphError(message.code as ErrorCode, message.message, { hint: message.hint })));
      else
        Promise.all(message.ranges.map(fetchRange)).then(
          (ranges) => say({ type: 'ranges', ranges }),
          (error) => end(() => reject(error)),
        );
    };
    const end = (settle: () => void) => {
      signal.removeEventListener('abort', abort);
      worker.off('error', died).off('exit', ended).off('message', receive);
      settle();
    };
    signal.addEventListener('abort', abort, { once: true });
    worker.on('error', died).on('exit', ended).on('message', receive);
    say({ type: 'load', input });
  });
}
