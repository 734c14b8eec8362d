import { readdir, readFile } from 'node:fs/promises';
import { getHeapStatistics } from 'node:v8';
import { createLatencies, type Latencies } from '../fetch/latencies.ts';

/** What the daemon's process takes, under the names that all clients of Prometheus have for it. */
export interface ProcessSample {
  cpuSeconds: number;
  residentBytes: number;
  heapBytes: number;
  /** Unix time. */
  startSeconds: number;
  openFiles: number;
  mostFiles: number;
}

export async function sampleProcess(): Promise<ProcessSample> {
  const { user, system } = process.cpuUsage();
  const [files, limits] = await Promise.all([readdir('/proc/self/fd'), readFile('/proc/self/limits', 'utf8')]);
  const limit = limits.match(/^Max open files +(\d+)/m)?.[1];
  return {
    cpuSeconds: (user + system) / 1e6,
    residentBytes: process.memoryUsage.rss(),
    heapBytes: getHeapStatistics().used_heap_size,
    startSeconds: performance.timeOrigin / 1000,
    openFiles: files.length,
    mostFiles: limit === undefined ? Number.POSITIVE_INFINITY : Number(limit),
  };
}

const EVERY_MS = 100;

/** Measures how late the event loop is: a daemon that nobody scrapes does not wake up for it. Goes on until the process ends. */
export function watchEventLoop(): Latencies {
  const latencies = createLatencies();
  let due = performance.now() + EVERY_MS;
  setInterval(() => {
    const now = performance.now();
    latencies.add(Math.max(0, now - due));
    due = now + EVERY_MS;
  }, EVERY_MS).unref();
  return latencies;
}
