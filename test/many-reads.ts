/**
 * Reads a page from each of many places of a file at once, past the page cache, so that each is a request of its own, and
 * compares them. A process of its own with as many threads as reads.
 *
 *   UV_THREADPOOL_SIZE=1000 many-reads.ts TRUTH FILE FIRST COUNT STEP
 *
 * Prints `asked` once all are under way, and `ManyReads` as JSON.
 */
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { open } from 'node:fs/promises';

export interface ManyReads {
  right: number;
  wrong: number;
  /** By error code. */
  failed: Record<string, number>;
}

const PAGE = 4096;
const [truth, path] = process.argv.slice(2);
const [first, count, step] = process.argv.slice(4).map(Number);
const file = await open(path, constants.O_RDONLY | constants.O_DIRECT);
const reads = Array.from({ length: count }, (_, i) => file.read(Buffer.alloc(PAGE), 0, PAGE, (first + i) * step));
process.stderr.write('asked\n');
const result: ManyReads = { right: 0, wrong: 0, failed: {} };
const right = openSync(truth, 'r');
const want = Buffer.alloc(PAGE);
for (const [i, read] of (await Promise.allSettled(reads)).entries()) {
  if (read.status === 'rejected') {
    const { code } = read.reason as NodeJS.ErrnoException;
    result.failed[code ?? 'unknown'] = (result.failed[code ?? 'unknown'] ?? 0) + 1;
    continue;
  }
  const length = readSync(right, want, 0, PAGE, (first + i) * step);
  const same = length === read.value.bytesRead && want.equals(read.value.buffer);
  if (same) result.right++;
  else result.wrong++;
}
closeSync(right);
await file.close();
process.stdout.write(JSON.stringify(result));
