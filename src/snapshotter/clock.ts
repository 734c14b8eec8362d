import koffi from 'koffi';
import { NymphError } from '../errors.ts';

const CLOCK_REALTIME = 0;
const clockGettime = koffi.load('libc.so.6').func('int clock_gettime(int clock, void *time)');
const time = new BigInt64Array(2);

/**
 * Nanoseconds since 1970 by the system's clock, as Go reads it. `Date.now()` is up to a millisecond early, and then a
 * snapshot would be older than the question for it.
 */
export function now(): bigint {
  if (clockGettime(CLOCK_REALTIME, time) !== 0) throw new NymphError('internal', 'clock_gettime(2) failed');
  return time[0] * 1_000_000_000n + time[1];
}
