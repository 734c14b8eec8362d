import type { BlobFetcher } from '../fetch/fetcher.ts';
import { cancelled } from '../fetch/gate.ts';

/** Brings all of a blob here; resolves when it is. */
export type JointFill = (signal: AbortSignal) => Promise<void>;

/** One fill for all who wait for the whole of a blob; it ends with the last of them. @param size of the blob, bytes */
export function createJointFill(fetcher: BlobFetcher, size: number): JointFill {
  let current: { work: Promise<void>; ending: AbortController; waiting: number } | undefined;

  function begin() {
    const ending = new AbortController();
    const mine = { work: fetcher.fill(0, size, ending.signal), ending, waiting: 0 };
    const over = () => {
      if (current === mine) current = undefined;
    };
    mine.work.then(over, over);
    return mine;
  }

  return async (signal) => {
    current ??= begin();
    const joined = current;
    joined.waiting++;
    try {
      await unlessAborted(joined.work, signal);
    } finally {
      if (--joined.waiting === 0) {
        joined.ending.abort();
        // Who comes now begins anew.
        if (current === joined) current = undefined;
      }
    }
  };
}

/** What `work` comes to; rejects with `cancelled` as soon as `signal` aborts. */
export async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  if (signal.aborted) throw cancelled();
  const aborted = Promise.withResolvers<never>();
  const abort = () => aborted.reject(cancelled());
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
