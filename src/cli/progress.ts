import type { Progress } from '../daemon/api.ts';
import { formatDuration, formatSize } from '../daemon/units.ts';
import { percent, printable } from './text.ts';

/** Draws progress for a person; says nothing where nobody watches. */
export interface ProgressView {
  update(progress: Progress): void;
  /** Takes the line away, so that what is printed next stands alone. */
  clear(): void;
}

/** Redraws at most this often, ms. */
const INTERVAL = 100;
/** The rate is taken over the last part of the work, ms: a mean over all of it would hide a stall. */
const RATE_WINDOW = 5000;
const BAR_WIDTH = 24;

/** One line on `stream`, redrawn in place, if it is a terminal. `now` gives ms of a clock that only goes forward. */
export function progressView(
  stream: { isTTY?: boolean; columns?: number; write(text: string): unknown } = process.stderr,
  now: () => number = () => performance.now(),
): ProgressView {
  if (!stream.isTTY) return { update: () => {}, clear: () => {} };
  let stage = '';
  let drawn = Number.NEGATIVE_INFINITY;
  let samples: { time: number; done: number }[] = [];
  return {
    update: (progress) => {
      const time = now();
      if (progress.stage !== stage) {
        stage = progress.stage;
        samples = [];
        drawn = Number.NEGATIVE_INFINITY;
      }
      if (progress.done !== undefined && time - (samples.at(-1)?.time ?? -INTERVAL) >= INTERVAL)
        samples.push({ time, done: progress.done });
      while (samples.length > 2 && time - samples[0].time > RATE_WINDOW) samples.shift();
      if (time - drawn < INTERVAL) return;
      drawn = time;
      const line = progressLine(progress, rate(samples)).slice(0, (stream.columns || 80) - 1);
      stream.write(`\r${line}\x1b[K`);
    },
    clear: () => {
      if (stage !== '') stream.write('\r\x1b[K');
    },
  };
}

/** `fetching  [####----] 43%  120 MiB of 280 MiB  35 MiB/s  4.5 s left`, as far as it is known. `rate` in bytes per second. */
export function progressLine(progress: Progress, rate: number | undefined): string {
  const { done, total } = progress;
  const parts = [printable(progress.stage)];
  if (done !== undefined && total !== undefined && total > 0) {
    const filled = Math.min(BAR_WIDTH, Math.floor((done / total) * BAR_WIDTH));
    parts.push(`[${'#'.repeat(filled)}${'-'.repeat(BAR_WIDTH - filled)}] ${percent(done, total).padStart(4)}`);
    parts.push(`${formatSize(done)} of ${formatSize(total)}`);
  } else if (done !== undefined) parts.push(formatSize(done));
  if (rate !== undefined && rate > 0) {
    parts.push(`${formatSize(rate)}/s`);
    if (done !== undefined && total !== undefined && total > done)
      parts.push(`${formatDuration(Math.max(1000, ((total - done) / rate) * 1000))} left`);
  }
  return parts.join('  ');
}

function rate(samples: { time: number; done: number }[]): number | undefined {
  if (samples.length < 2) return undefined;
  const first = samples[0];
  const last = samples[samples.length - 1];
  return ((last.done - first.done) / (last.time - first.time)) * 1000;
}
