import { setTimeout as sleep } from 'node:timers/promises';
import { NymphError } from '../errors.ts';
import { cancelled, SMALL_OBJECT_RETRY } from './retry.ts';
import type { Source } from './source.ts';

/**
 * All bytes of an object from `offset` on, in order. A stream that breaks goes on where it ended; several failures in a
 * row without a byte end it. Nothing is verified.
 */
export async function* readWhole(
  source: Source,
  size: number,
  signal: AbortSignal,
  offset = 0,
): AsyncGenerator<Uint8Array> {
  const { attempts, delay, maxDelay } = SMALL_OBJECT_RETRY;
  for (let at = offset, failures = 0; at < size; ) {
    try {
      for await (const piece of await source.read(at, size - at, signal)) {
        at += piece.length;
        failures = 0;
        yield piece;
      }
    } catch (error) {
      if (!(error instanceof NymphError) || !error.retryable || ++failures >= attempts) throw error;
      const pause = Math.min(maxDelay, delay * 2 ** failures);
      await sleep(Math.max(error.retryAfter ?? 0, pause), undefined, { signal }).catch(() => {
        throw cancelled('waiting for another attempt');
      });
    }
  }
}
