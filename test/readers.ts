/**
 * Readers that compare a mounted tree with its truth, over and over, page-cold: each read is of a random range of a random
 * file, and the kernel is told to forget the file's pages first. A process of its own with a thread for each reader.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import koffi from 'koffi';
import { filesBelow } from './files-below.ts';
import { randomSeries } from './manifest/read.ts';

/** What readers saw. */
export interface Seen {
  reads: number;
  bytes: number;
  /** Reads that gave other bytes than the truth: file, offset, length. */
  wrong: string[];
  /** Reads that failed, by error code. */
  errors: Record<string, number>;
  /** Milliseconds of the longest read. */
  slowest: number;
}

export interface Readers {
  readonly child: ChildProcess;
  /** Ends them after the read that each is in, and tells what they saw. */
  stop(): Promise<Seen>;
}

interface Task {
  truth: string;
  mounted: string;
  seed: number;
  maxRead: number;
  stop: SharedArrayBuffer;
}

/**
 * @param truth directory with the same regular files as `mounted`
 * @param options `readers` (default 8); `maxRead` longest read in bytes (default 256 KiB); `through` a command that runs
 * them elsewhere
 */
export function startReaders(
  t: { after(clean: () => void): void },
  truth: string,
  mounted: string,
  options: { readers?: number; seed?: number; maxRead?: number; through?: readonly string[] } = {},
): Readers {
  const { readers = 8, seed = 1, maxRead = 256 << 10, through = [] } = options;
  const args = [truth, mounted, readers, seed, maxRead].map(String);
  const [program, ...rest] = [...through, process.execPath, fileURLToPath(import.meta.url), ...args];
  const child = spawn(program, rest, {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => void child.kill('SIGKILL'));
  const out: Buffer[] = [];
  child.stdout.on('data', (data: Buffer) => out.push(data));
  const seen = new Promise<Seen>((resolve, reject) => {
    child.once('close', (code, signal) => {
      if (code === 0) resolve(JSON.parse(Buffer.concat(out).toString()) as Seen);
      else reject(new Error(`the readers ended with ${signal ?? code}`));
    });
  });
  seen.catch(() => {});
  return {
    child,
    stop() {
      child.stdin.end();
      return seen;
    },
  };
}

function read(task: Task): Seen {
  const advise = koffi.load('libc.so.6').func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');
  const DONTNEED = 4;
  const random = randomSeries(task.seed);
  const files = filesBelow(task.truth);
  const stop = new Int32Array(task.stop);
  const seen: Seen = { reads: 0, bytes: 0, wrong: [], errors: {}, slowest: 0 };
  const want = Buffer.alloc(task.maxRead);
  const got = Buffer.alloc(task.maxRead);
  while (Atomics.load(stop, 0) === 0) {
    // Large files more often: the square root of a share of all bytes would do, every other read does as well.
    const file = random() < 0.5 ? largest(files) : files[Math.floor(random() * files.length)];
    const offset = Math.floor(random() * file.size);
    const length = 1 + Math.floor(random() * random() * Math.min(task.maxRead - 1, file.size - offset));
    const begun = performance.now();
    let fd: number | undefined;
    try {
      fd = openSync(join(task.mounted, file.path), 'r');
      advise(fd, 0, 0, DONTNEED);
      const count = readAll(fd, got, length, offset);
      const truth = openSync(join(task.truth, file.path), 'r');
      const right = readSync(truth, want, 0, length, offset);
      closeSync(truth);
      seen.reads++;
      seen.bytes += count;
      if (count !== right || got.compare(want, 0, right, 0, count) !== 0)
        seen.wrong.push(`${file.path} ${offset}+${length} (${count} bytes)`);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code ?? String(error);
      seen.errors[code] = (seen.errors[code] ?? 0) + 1;
      // Where every read fails at once, the readers would keep the processors from whoever is to mend it.
      Atomics.wait(stop, 0, 0, 20);
    } finally {
      if (fd !== undefined) closeSync(fd);
      seen.slowest = Math.max(seen.slowest, performance.now() - begun);
    }
  }
  return seen;
}

/** A read that meets an error behind its first page gives what it has; the error comes with the next. */
function readAll(fd: number, into: Buffer, length: number, offset: number): number {
  let done = 0;
  while (done < length) {
    const count = readSync(fd, into, done, length - done, offset + done);
    if (count === 0) break;
    done += count;
  }
  return done;
}

function largest(files: { path: string; size: number }[]): { path: string; size: number } {
  return files.reduce((most, file) => (file.size > most.size ? file : most));
}

async function main([truth, mounted, readers, seed, maxRead]: string[]): Promise<void> {
  const stop = new SharedArrayBuffer(4);
  process.stdin.resume().once('end', () => Atomics.store(new Int32Array(stop), 0, 1));
  const all: Seen = { reads: 0, bytes: 0, wrong: [], errors: {}, slowest: 0 };
  const threads = Array.from({ length: Number(readers) }, (_, i) => {
    const task: Task = { truth, mounted, seed: Number(seed) + i, maxRead: Number(maxRead), stop };
    return new Promise<Seen>((resolve, reject) => {
      const worker = new Worker(new URL(import.meta.url), { workerData: task });
      worker.once('message', resolve);
      worker.once('error', reject);
    });
  });
  for (const seen of await Promise.all(threads)) {
    all.reads += seen.reads;
    all.bytes += seen.bytes;
    all.wrong.push(...seen.wrong);
    all.slowest = Math.max(all.slowest, seen.slowest);
    for (const [code, count] of Object.entries(seen.errors)) all.errors[code] = (all.errors[code] ?? 0) + count;
  }
  process.stdout.write(JSON.stringify(all));
}

if (!isMainThread && (workerData as Partial<Task> | null)?.maxRead !== undefined && parentPort !== null)
  parentPort.postMessage(read(workerData as Task));
else if (import.meta.main) await main(process.argv.slice(2));
