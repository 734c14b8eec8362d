import { setImmediate } from 'node:timers/promises';
import { getHeapStatistics } from 'node:v8';
import type { Coverage } from './coverage.ts';
import { minimise } from './minimise.ts';
import { type Material, mutate } from './mutate.ts';
import { createRandom } from './random.ts';
import { Defect, defectName, judge, type Target } from './target.ts';

export interface SearchOptions {
  /** The same seed, corpus and code give the same inputs. */
  seed: number;
  /** Ends after so many runs, or ms. */
  runs: number;
  time: number;
  coverage: Coverage;
  /** Told of each input before it is run. */
  before?(input: Uint8Array): void;
  /** Told now and then. */
  progress?(result: Readonly<SearchResult>): void;
}

export interface SearchResult {
  runs: number;
  /** Inputs that were run to begin with, and those that reached something new. */
  seeds: number;
  corpus: Uint8Array[];
  /** Different ways in which runs ended. */
  ways: number;
  defects: FoundDefect[];
}

export interface FoundDefect {
  name: string;
  /** As small as it could be made. */
  input: Uint8Array;
  error: unknown;
}

const DEFAULT_LIMIT = 64 << 10;
const DEFAULT_MEMORY = 64 << 20;
/** Longest run, ms of this thread's processor time. */
const MOST_TIME = 1000;
/** Runs of a batch, and bytes of its inputs. By number and not by time, or a seed would mean something else each time. */
const BATCH_RUNS = 1024;
const BATCH_BYTES = 16 << 20;
/** After so many runs Node gets time to clean up what they left: buffers of native code are given up between two turns. */
const PAUSE_EVERY = 16;
/** One input in so many comes out of the target's grammar. */
const MADE = 16;
const MOST_DEFECTS = 20;
/** More of them are texts out of the input. */
const MOST_WAYS = 400;
const PROGRESS_EVERY = 2000;

/**
 * Looks for inputs that a target cannot stand: changes inputs that reached something, and keeps those that reach
 * something new, which is a block of code or a way to end.
 */
export async function search(
  target: Target,
  corpus: readonly Uint8Array[],
  options: SearchOptions,
): Promise<SearchResult> {
  const { coverage } = options;
  const random = createRandom(options.seed);
  const material: Material = {
    random,
    words: (target.words ?? []).map((word) => Buffer.from(word as Uint8Array)),
    text: target.text ?? false,
    limit: target.limit ?? DEFAULT_LIMIT,
  };
  const ways = new Set<string>();
  const result: SearchResult = { runs: 0, seeds: corpus.length, corpus: [], ways: 0, defects: [] };
  const end = Date.now() + options.time;
  let told = Date.now();

  /** Runs an input; true if it ended in a new way. */
  async function run(input: Uint8Array): Promise<boolean> {
    if (++result.runs % PAUSE_EVERY === 0) await setImmediate();
    try {
      const way = await attempt(target, input, options.before);
      if (ways.has(way) || ways.size === MOST_WAYS) return false;
      ways.add(way);
      result.ways = ways.size;
      return true;
    } catch (error) {
      await note(input, error);
      return false;
    }
  }

  async function note(input: Uint8Array, error: unknown): Promise<void> {
    const name = defectName(error);
    if (result.defects.some((known) => known.name === name)) return;
    const defect: FoundDefect = { name, input: Uint8Array.from(input), error };
    result.defects.push(defect);
    defect.input = await minimise(input, async (candidate) => (await nameOf(candidate)) === name);
  }

  async function nameOf(input: Uint8Array): Promise<string | undefined> {
    try {
      await attempt(target, input, options.before);
      return undefined;
    } catch (error) {
      return defectName(error);
    }
  }

  /** Inputs of a batch that brought blocks which never ran: found by halves. */
  async function locate(batch: readonly Uint8Array[]): Promise<void> {
    coverage.reset();
    for (const input of batch) await run(input);
    if (!(batch.length === 1 ? coverage.isNew() : coverage.peekNew())) return;
    if (batch.length === 1) {
      result.corpus.push(batch[0]);
      return;
    }
    const middle = batch.length >> 1;
    await locate(batch.slice(0, middle));
    await locate(batch.slice(middle));
  }

  function next(): Uint8Array {
    const isMade = target.generate !== undefined && random.oneIn(MADE);
    const parent = isMade ? target.generate!(random) : pick();
    if (isMade && random.oneIn(2)) return parent;
    const input = mutate(parent, pick(), material);
    if (!random.oneIn(8)) target.repair?.(input);
    return input;
  }

  /** Half of the time one of the newest. */
  function pick(): Uint8Array {
    const { length } = result.corpus;
    return result.corpus[random.oneIn(2) ? random.int(length) : length - 1 - random.int(Math.min(length, 32))];
  }

  coverage.reset();
  for (const input of corpus) {
    if ((await run(input)) || coverage.isNew()) result.corpus.push(input);
  }
  if (result.corpus.length === 0) result.corpus.push(new Uint8Array());
  const isOver = () => result.runs >= options.runs || Date.now() > end || result.defects.length >= MOST_DEFECTS;
  while (!isOver()) {
    const batch: Uint8Array[] = [];
    for (let bytes = 0; bytes < BATCH_BYTES && batch.length < BATCH_RUNS && !isOver(); ) {
      const input = next();
      bytes += input.length + 64;
      if (await run(input)) result.corpus.push(input);
      batch.push(input);
    }
    if (coverage.peekNew()) {
      await locate(batch);
      // What does not come again when it is run again, as code that runs once, is known from now on, too.
      for (const input of batch) await run(input);
      coverage.isNew();
    }
    if (Date.now() - told > PROGRESS_EVERY) {
      told = Date.now();
      options.progress?.(result);
    }
  }
  return result;
}

/** One run, with its bounds. @throws whatever is a defect */
async function attempt(target: Target, input: Uint8Array, before?: (input: Uint8Array) => void): Promise<string> {
  before?.(input);
  const weighed = !target.text;
  const memory = weighed ? allocated() : 0;
  const start = performance.now();
  const judged = judge(target, input);
  const way = typeof judged === 'string' ? judged : await judged;
  if (weighed && allocated() - memory > (target.memory ?? DEFAULT_MEMORY))
    throw new Defect(`one run allocates ${Math.round((allocated() - memory) / 2 ** 20)} MiB`);
  if (performance.now() - start > MOST_TIME) {
    // The machine may have been busy: what counts is the processor's time.
    const before = process.threadCpuUsage();
    await judge(target, input);
    const { user, system } = process.threadCpuUsage(before);
    if ((user + system) / 1000 > MOST_TIME) throw new Defect(`one run takes ${Math.round((user + system) / 1000)} ms`);
  }
  return way;
}

/** Bytes of the heap and of buffers. A collection in between hides some: rarely in one run. */
function allocated(): number {
  const { used_heap_size, external_memory } = getHeapStatistics();
  return used_heap_size + external_memory;
}
