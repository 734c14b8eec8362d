import { Worker } from 'node:worker_threads';
import { NymphError } from '../errors.ts';
import { cancelled } from '../fetch/gate.ts';
import type { OciDigest, StreamCodec } from '../image/image.ts';
import type { FromUnpackThread, ToUnpackThread } from './unpack-messages.ts';

/** A thread that reads layers whole: see `unpack-thread.ts`. */
export interface Unpacker {
  /**
   * Reads one layer; one at a time. After a failure it can read no other.
   * @param stream all bytes of the layer @param fd where to put what it unpacks to
   * @throws NymphError `corrupt` if the layer does not have its digest or is no tar; what the stream throws
   */
  unpack(
    layer: { codec: StreamCodec; digest: OciDigest; name: string; fd?: number },
    stream: AsyncIterable<Uint8Array>,
    signal: AbortSignal,
  ): Promise<UnpackedLayer>;
  /** Nothing touches the descriptor any more when it resolves. */
  close(): Promise<void>;
}

export type UnpackedLayer = Omit<Extract<FromUnpackThread, { type: 'done' }>, 'type'>;

/** Bytes that may wait in the thread. */
const MOST_WAITING = 8 << 20;

export function createUnpacker(): Unpacker {
  const worker = new Worker(new URL(`./unpack-thread${import.meta.url.slice(-3)}`, import.meta.url), {
    name: 'unpack',
    resourceLimits: { maxYoungGenerationSizeMb: 16, maxOldGenerationSizeMb: 512, stackSizeMb: 1 },
  });
  const tell = (message: ToUnpackThread, transfer: ArrayBuffer[] = []) => worker.postMessage(message, transfer);
  let result = Promise.withResolvers<UnpackedLayer>();
  let waiting = 0;
  let wake: (() => void) | undefined;

  worker.on('message', (message: FromUnpackThread) => {
    if (message.type === 'taken') {
      waiting -= message.bytes;
      wake?.();
    } else if (message.type === 'done') result.resolve(message);
    else result.reject(new NymphError(message.code, message.message, message));
  });
  worker.on('error', (error) => {
    result.reject(new NymphError('internal', `the thread that unpacks layers died: ${error}`, { retryable: true }));
  });

  return {
    async unpack(layer, stream, signal) {
      const mine = Promise.withResolvers<UnpackedLayer>();
      result = mine;
      waiting = 0;
      const abort = () => mine.reject(cancelled());
      signal.addEventListener('abort', abort, { once: true });
      let failed = false;
      mine.promise.catch(() => {
        failed = true;
        wake?.();
      });
      try {
        tell({ type: 'begin', ...layer });
        for await (const piece of stream) {
          waiting += piece.length;
          const bytes = new Uint8Array(piece);
          tell({ type: 'piece', bytes }, [bytes.buffer]);
          while (waiting > MOST_WAITING && !failed) {
            const { promise, resolve } = Promise.withResolvers<void>();
            wake = resolve;
            await promise;
          }
          // A layer that is wrong is not read to its end.
          if (failed) break;
        }
        tell({ type: 'end' });
        return await mine.promise;
      } finally {
        signal.removeEventListener('abort', abort);
      }
    },
    async close() {
      await worker.terminate();
    },
  };
}
