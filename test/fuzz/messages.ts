/** What the parts of a run say to each other: main.ts starts a process for each target (guard.ts), and that a thread (loop.ts). */
export interface Job {
  target: string;
  seed: number;
  /** Executions, and ms. */
  runs: number;
  time: number;
  /** Whether inputs that reach something new replace those in `test/corpus`. */
  keep: boolean;
}

export interface Figures {
  runs: number;
  seconds: number;
  /** Inputs to begin with, and those that reached something new. */
  seeds: number;
  found: number;
  /** Ways to end, and characters of source that ran. */
  ways: number;
  reached: number;
}

export type Message =
  | { type: 'progress' | 'done'; figures: Figures }
  | { type: 'defect'; name: string; detail: string; input: Uint8Array };

/** In the temporary directory: the input that native code has. */
export const LAST_INPUT = 'last-input';

/** What the thread shares with its guard. */
export interface Shared {
  /** [0] number of runs, [1] length of the input. */
  words: Int32Array<SharedArrayBuffer>;
  input: Uint8Array<SharedArrayBuffer>;
}

export const RUNS = 0;
export const LENGTH = 1;
const MOST_INPUT = 4 << 20;

export function createShared(): Shared {
  return { words: new Int32Array(new SharedArrayBuffer(8)), input: new Uint8Array(new SharedArrayBuffer(MOST_INPUT)) };
}
