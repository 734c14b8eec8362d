import { NymphError } from '../../errors.ts';

/** A signal that is aborted with another one, or when something takes too long. */
export interface Deadline {
  readonly signal: AbortSignal;
  /** What comes of `promise`, which the signal ends. @throws NymphError `timeout` if it takes longer than so many ms, `cancelled` */
  within<T>(milliseconds: number, promise: Promise<T>): Promise<T>;
  /** Aborts the signal. */
  end(): void;
}

/** @param what for errors: `dfdaemon sent nothing of blob …` */
export function deadline(outer: AbortSignal, what: string): Deadline {
  const controller = new AbortController();
  const abort = () => controller.abort();
  outer.addEventListener('abort', abort, { once: true });
  if (outer.aborted) abort();
  return {
    signal: controller.signal,
    async within(milliseconds, promise) {
      let expired = false;
      const timer = setTimeout(() => {
        expired = true;
        abort();
      }, milliseconds);
      timer.unref();
      try {
        return await promise;
      } catch (error) {
        if (outer.aborted) throw new NymphError('cancelled', 'nobody wants it any more', { cause: error });
        if (!expired) throw error;
        throw new NymphError('timeout', `${what} for ${milliseconds / 1000} s`, { retryable: true, cause: error });
      } finally {
        clearTimeout(timer);
      }
    },
    end() {
      outer.removeEventListener('abort', abort);
      abort();
    },
  };
}
