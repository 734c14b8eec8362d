/** What happened, and what is said about it at the end. */
import { count, emptyTally, type Tally } from '../chaos/tally.ts';

export interface SoakTally extends Tally {
  /** Reads that were compared with the truth, by the way they were made. */
  reads: Record<string, number>;
  bytes: number;
  /** Faults that were injected, by kind; those that cannot be had here, with the reason. */
  faults: Record<string, number>;
  /** When each began and ended, by the time of day. */
  timeline: string[];
  unavailable: Record<string, string>;
  /** Memory of daemon and supervisor, MiB, and open descriptors of the daemon, by the second of the run. */
  memory: { second: number; daemon: number; supervisor: number; descriptors: number }[];
}

export const emptySoak = (): SoakTally => ({
  ...emptyTally(),
  reads: {},
  bytes: 0,
  faults: {},
  timeline: [],
  unavailable: {},
  memory: [],
});

/**
 * Failures that a fault outside of nymph explains, by what they say. A daemon that restarts, a source that fails or stalls,
 * a disk that is full, a mount that somebody reads. Reads never fail in such times: none of these is about one.
 */
const EXPLAINED = new Set(['source', 'timeout', 'daemon', 'busy', 'cache', 'cancelled', 'not-found', 'mount']);

/** Faults of a registry by which bytes come wrong. */
export const WRONG = /wrong bytes|another range|too few/;

/** Counts an operation that failed. */
export function failedOperation(tally: SoakTally, what: string, error: unknown): void {
  const { code, message } = error as { code?: string; message?: string };
  // A registry that lies has nothing right to give for as long as it does.
  const isLiedTo = code === 'corrupt' && tally.timeline.some((line) => WRONG.test(line));
  if (code !== undefined && (EXPLAINED.has(code) || isLiedTo) && message) count(tally.failures, `${what}: ${code}`);
  else tally.unexplained.push(`${new Date().toISOString().slice(11, 19)} ${what}: ${code ?? ''} ${message ?? error}`);
}

const sum = (of: Record<string, number>) => Object.values(of).reduce((all, one) => all + one, 0);

export interface Verdict {
  seconds: number;
  reads: number;
  bytes: number;
  containerOutputs: number;
  faults: number;
  wrong: string[];
  unexplained: string[];
  lost: string[];
  leaks: string[];
  good: boolean;
}

export function verdict(tally: SoakTally, leaks: string[], seconds: number): Verdict {
  const { wrong, unexplained, lost, bytes, outputs } = tally;
  return {
    seconds,
    reads: sum(tally.reads),
    bytes,
    containerOutputs: outputs,
    faults: sum(tally.faults),
    ...{ wrong, unexplained, lost, leaks },
    good: wrong.length + unexplained.length + lost.length + leaks.length === 0,
  };
}

export function text(
  tally: SoakTally,
  { seconds, reads, bytes, containerOutputs, faults, good, ...lists }: Verdict,
): string {
  const table = (of: Record<string, number>) =>
    Object.entries(of)
      .sort(([, a], [, b]) => b - a)
      .map(([name, times]) => `  ${times} × ${name}`);
  const { memory } = tally;
  const third = Math.ceil(memory.length / 3);
  const mean = (of: typeof memory, key: 'daemon' | 'supervisor' | 'descriptors') =>
    Math.round(of.reduce((all, one) => all + one[key], 0) / Math.max(1, of.length));
  const row = (title: string, of: typeof memory) =>
    `  ${title}: daemon ${mean(of, 'daemon')} MiB (most ${Math.max(...of.map(({ daemon }) => daemon), 0)}), supervisor ${mean(of, 'supervisor')} MiB, ${mean(of, 'descriptors')} descriptors`;
  return [
    `${Math.round(seconds)} s`,
    `operations: ${sum(tally.operations)}`,
    ...table(tally.operations),
    `failed with a reason: ${sum(tally.failures)}`,
    ...table(tally.failures),
    `faults injected: ${faults}`,
    ...table(tally.faults),
    ...(good ? [] : tally.timeline.map((line) => `  ${line}`)),
    ...Object.entries(tally.unavailable).map(([name, why]) => `  cannot be had here: ${name} (${why})`),
    `reads checked: ${reads} (${Math.round(bytes / 1e6)} MB)`,
    ...table(tally.reads),
    `outputs of containers checked: ${containerOutputs}`,
    'memory and descriptors, in thirds of the run:',
    ...[0, 1, 2].map((i) => row(`${i + 1}`, memory.slice(i * third, (i + 1) * third))),
    ...(['wrong', 'unexplained', 'lost', 'leaks'] as const).map((name) =>
      [`${name}: ${lists[name].length}`, ...lists[name].slice(0, 30)].join('\n  '),
    ),
  ].join('\n');
}
