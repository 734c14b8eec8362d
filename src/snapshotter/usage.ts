import { NymphError } from '../errors.ts';
import type { Usage } from './snapshotter.ts';
import type { UsageInput, UsageOutput, Walk } from './usage-job.ts';

/** Measures trees: kubelets ask for every container each 10 s, so many small ones share a job, and large ones take turns. */
export interface Meter {
  /** What is below a directory, itself included. Rejects when the meter is closed. */
  measure(path: string): Promise<Usage>;
  close(): void;
}

/** Trees in one job. */
const MOST_WALKS = 64;
/** Of one job, ms: the same threads decode what readers wait for. */
const JOB_MS = 10;

interface Measuring {
  walk: Walk;
  sum: Usage;
  resolve: (usage: Usage) => void;
  reject: (error: unknown) => void;
}

/** @param run does one job on a thread */
export function createMeter(run: (input: UsageInput) => Promise<UsageOutput>): Meter {
  const queue: Measuring[] = [];
  let working = false;
  let closed = false;

  async function work(): Promise<void> {
    working = true;
    while (queue.length > 0) {
      const some = queue.splice(0, MOST_WALKS);
      try {
        if (closed) throw new NymphError('cancelled', 'the snapshotter is being closed');
        const output = await run({ walks: some.map(({ walk }) => walk), time: JOB_MS });
        some.forEach((measuring, i) => {
          add(measuring, output[i]);
        });
      } catch (error) {
        for (const { reject } of some) reject(error);
      }
    }
    working = false;
  }

  function add(measuring: Measuring, { size, inodes, ...rest }: UsageOutput[number]): void {
    measuring.walk = rest;
    measuring.sum.size += size;
    measuring.sum.inodes += inodes;
    if (rest.directories.length === 0) measuring.resolve(measuring.sum);
    else queue.push(measuring);
  }

  return {
    measure: (path) =>
      new Promise((resolve, reject) => {
        queue.push({
          walk: { directories: [Buffer.from(path)], linked: [] },
          sum: { size: 0, inodes: 0 },
          resolve,
          reject,
        });
        if (!working) void work();
      }),
    close() {
      closed = true;
    },
  };
}
