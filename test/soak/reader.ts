/**
 * Reads files of a mount, page-cold, and compares each with its truth. A process of its own: a mapping that cannot be read
 * ends it.
 *
 *   reader.ts TRUTH MOUNTED order|random|mmap SEED FILES
 *
 * Prints `Read` as JSON.
 */
import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import koffi from 'koffi';
import { filesBelow } from '../files-below.ts';
import { digestFile, type How, randomSeries } from '../manifest/read.ts';

export interface Read {
  files: number;
  bytes: number;
  wrong: string[];
  failed: string[];
}

const DONTNEED = 4;
const advise = koffi.load('libc.so.6').func('int posix_fadvise(int fd, int64_t offset, int64_t length, int advice)');

const [truth, mounted, how, seed, most] = process.argv.slice(2);
const random = randomSeries(Number(seed));
const files = filesBelow(truth);
const large = files.reduce((most, file) => (file.size > most.size ? file : most));
const result: Read = { files: 0, bytes: 0, wrong: [], failed: [] };
for (let i = 0; i < Number(most); i++) {
  const { path, size } = random() < 0.1 ? large : files[Math.floor(random() * files.length)];
  forget(join(mounted, path));
  const got = digestFile(Buffer.from(join(mounted, path)), size, how as How, random);
  const right = digestFile(Buffer.from(join(truth, path)), size, 'order', random);
  if (got === right) {
    result.files++;
    result.bytes += size;
  } else if (/^(open|read): /.test(got)) result.failed.push(`${path}: ${got}`);
  else result.wrong.push(`${path}: ${got}`);
}
process.stdout.write(JSON.stringify(result));

function forget(path: string): void {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch {
    // The read that follows says why.
    return;
  }
  advise(fd, 0, 0, DONTNEED);
  closeSync(fd);
}
