import { type Profiler, Session } from 'node:inspector';

/**
 * Which blocks of `src/` were run, as V8 counts them: it costs the code nothing to speak of, and 0.5 ms to ask. So whole
 * batches of inputs are asked about, and one that brought something new is looked through.
 */
export interface Coverage {
  /** Forgets what ran until now. */
  reset(): void;
  /** True if something ran, since the last question, that never ran before; from then on it is known. */
  isNew(): boolean;
  /** The same, but leaves it unknown. */
  peekNew(): boolean;
  /** Blocks that are known, in characters of source. */
  size(): number;
}

export function createCoverage(): Coverage {
  const session = new Session();
  session.connect();
  /** Characters that ran, by function. */
  const known = new Map<string, Uint8Array>();
  /** Reports of functions that held nothing new. */
  const stale = new Set<string>();
  let size = 0;
  const post = <T>(method: string, parameters: object = {}): T => {
    let answer: T | undefined;
    // With this thread's own session the answer is here when the call returns.
    session.post(method, parameters, (error, result) => {
      if (error) throw error;
      answer = result as T;
    });
    return answer!;
  };
  post('Profiler.enable');
  post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });

  function look(keep: boolean): boolean {
    let found = false;
    for (const { url, functions } of post<Profiler.TakePreciseCoverageReturnType>('Profiler.takePreciseCoverage')
      .result) {
      const file = /\/src\/.*\.ts$/.exec(url)?.[0];
      if (file === undefined) continue;
      for (const { ranges } of functions) if (lookAt(file, ranges, keep)) found = true;
    }
    return found;
  }

  function lookAt(file: string, ranges: Profiler.CoverageRange[], keep: boolean): boolean {
    const [{ startOffset: start, endOffset: end, count }] = ranges;
    if (count === 0) return false;
    const key = `${file}:${start}`;
    const report = `${key} ${ranges.map((range) => (range.count > 0 ? range.startOffset : -range.startOffset))}`;
    if (stale.has(report)) return false;
    const ran = new Uint8Array(end - start);
    // Outer blocks come before those that they hold.
    for (const range of ranges) ran.fill(range.count > 0 ? 1 : 0, range.startOffset - start, range.endOffset - start);
    const before = known.get(key) ?? new Uint8Array(end - start);
    let found = false;
    for (let i = 0; i < ran.length; i++) {
      if (ran[i] === 0 || before[i] !== 0) continue;
      found = true;
      if (!keep) return true;
      before[i] = 1;
      size++;
    }
    if (keep) known.set(key, before);
    stale.add(report);
    return found;
  }

  return {
    reset: () => void post('Profiler.takePreciseCoverage'),
    isNew: () => look(true),
    peekNew: () => look(false),
    size: () => size,
  };
}
