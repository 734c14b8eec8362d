import { readFile } from 'node:fs/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import koffi from 'koffi';

/**
 * Gives memory back when nothing happens: the daemon runs on every node, mostly idle. After a start or a burst of work
 * it holds garbage, freed pieces of the C heap, and 45 MB of mapped Node code and constants that only the start needed. They
 * stay in the page cache, and what is needed again is mapped again by a minor fault.
 */

const MADV_DONTNEED = 4;
const INTERVAL_MS = 5_000;

/** @param activity a number that changes when something was done. @returns stops it. */
export function releaseMemoryWhenIdle(activity: () => number): () => void {
  const release = releaser();
  let before = Number.NaN;
  let released = Number.NaN;
  const timer = setInterval(() => {
    const now = activity();
    if (now === before && now !== released) {
      released = now;
      void release();
    }
    before = now;
  }, INTERVAL_MS).unref();
  return () => clearInterval(timer);
}

function releaser(): () => Promise<void> {
  const libc = koffi.load('libc.so.6');
  const trim = libc.func('int malloc_trim(size_t pad)');
  const advise = libc.func('int madvise(uintptr_t address, size_t length, int advice)');
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  return async () => {
    collect();
    trim(0);
    for (const { start, end } of cleanProgram(await readFile('/proc/self/smaps', 'utf8')))
      advise(start, Number(end - start), MADV_DONTNEED);
  };
}

/**
 * Address ranges of a process's own program, code and constants, in `/proc/self/smaps` (proc_pid_smaps(5)). Only what is
 * not writable and was never written: relocated constants were, before they were locked, and would be lost.
 */
export function cleanProgram(smaps: string, program: string = process.execPath): { start: bigint; end: bigint }[] {
  return smaps
    .split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
    .filter((mapping) => ['Private_Dirty', 'Anonymous', 'Swap'].every((field) => mapping.includes(`\n${field}: `)))
    .filter((mapping) => !/^(?:Private_Dirty|Anonymous|Swap): +[1-9]/m.test(mapping))
    .map((mapping) => mapping.match(/^([0-9a-f]+)-([0-9a-f]+) r-[x-]p \S+ \S+ \S+\s+(.*)$/m))
    .filter((match) => match?.[3] === program)
    .map((match) => ({ start: BigInt(`0x${match![1]}`), end: BigInt(`0x${match![2]}`) }));
}
