import { Worker } from 'node:worker_threads';
import { type ErrorCode, NymphError } from '../errors.ts';
import { cancelled } from '../fetch/gate.ts';
import type { FromLoader, LoadedImage, LoadInput, Range, ToLoader } from './load-message.ts';

/** A loader thread. It is started before its input is here, so that the network hides its 25 ms. */
export interface Loader {
  /**
   * @param fetchRange reads a range of a blob's object, for bootstraps inside blobs and for batches.
   * @throws NymphError `corrupt` or `unsupported`, naming structure, field and offset.
   */
  load(input: LoadInput, fetchRange: (range: Range) => Promise<Uint8Array>, signal: AbortSignal): Promise<LoadedImage>;
  close(): Promise<void>;
}

export function startLoader(): Loader {
  const worker = new Worker(new URL(`./load-thread${import.meta.url.slice(-3)}`, import.meta.url), { name: 'load' });
  // An error before `load` listens is told by its own listener.
  worker.on('error', () => {});
  const say = (message: ToLoader) => worker.postMessage(message);
  return {
    load(input, fetchRange, signal) {
      return new Promise((resolve, reject) => {
        if (signal.aborted) reject(cancelled());
        signal.addEventListener('abort', () => reject(cancelled()), { once: true });
        worker.on('error', (error) => reject(new NymphError('internal', `the loader died: ${error}`, { cause: error })));
        worker.on('exit', () => reject(new NymphError('internal', 'the loader ended')));
        worker.on('message', (message: FromLoader) => {
          if (message.type === 'done') resolve(message.loaded);
          else if (message.type === 'error')
            reject(new NymphError(message.code as ErrorCode, message.message, { hint: message.hint }));
          else
            Promise.all(message.ranges.map(fetchRange)).then((ranges) => say({ type: 'ranges', ranges }), reject);
        });
        say({ type: 'load', input });
      });
    },
    async close() {
      await worker.terminate();
    },
  };
}
