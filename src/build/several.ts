import { NymphError } from '../errors.ts';

/**
 * Works on several items at once, in order of their start. The first failure ends the others, and is thrown when they have
 * ended.
 * @param work is given a signal that ends with the others
 */
export async function eachOf<T>(
  items: readonly T[],
  most: number,
  signal: AbortSignal,
  work: (item: T, number: number, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const own = new AbortController();
  const any = AbortSignal.any([signal, own.signal]);
  const queue = items.entries();
  let failure: { error: unknown } | undefined;
  const one = async (): Promise<void> => {
    for (const [number, item] of queue) {
      try {
        if (any.aborted) throw new NymphError('cancelled', 'the work was cancelled');
        await work(item, number, any);
      } catch (error) {
        failure ??= { error };
        own.abort();
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(most, items.length) }, one));
  if (failure) throw failure.error;
}

/** How far several pieces of work are together. */
export interface Portion {
  readonly done: number;
  readonly total: number;
  set(number: number, done: number): void;
  expect(number: number, total: number): void;
}

export function createPortion(totals: readonly number[]): Portion {
  const done = totals.map(() => 0);
  const expected = [...totals];
  const sum = (values: readonly number[]) => values.reduce((all, value) => all + value, 0);
  return {
    get done() {
      return sum(done);
    },
    get total() {
      return sum(expected);
    },
    set: (number, value) => {
      done[number] = value;
    },
    expect: (number, total) => {
      expected[number] = total;
    },
  };
}
