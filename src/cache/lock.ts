import { closeSync, ftruncateSync, openSync, readFileSync, writeSync } from 'node:fs';
import { getSystemErrorName } from 'node:util';
import koffi from 'koffi';
import { NymphError } from '../errors.ts';

const LOCK_EX = 2;
const LOCK_NB = 4;

const flock = koffi.load('libc.so.6').func('int flock(int fd, int operation)');

/**
 * Takes the lock of a cache directory for this process: flock(2), so it is gone as soon as the process is, however that
 * ended. Synchronous: for start-up. The file holds the owner's process id, for people.
 *
 * @returns gives the lock up
 * @throws NymphError `busy` if another process (or this one) has it
 */
export function lockDirectory(path: string): () => void {
  // Node opens with O_CLOEXEC: a child does not keep the lock.
  const fd = openSync(path, 'a+', 0o600);
  if (flock(fd, LOCK_EX | LOCK_NB) !== 0) {
    const name = getSystemErrorName(-koffi.errno());
    closeSync(fd);
    if (name !== 'EAGAIN') throw new NymphError('cache', `cannot lock ${path}: ${name}`);
    const owner = readFileSync(path, 'latin1').trim();
    throw new NymphError('busy', `the cache is in use by process ${/^\d+$/.test(owner) ? owner : 'unknown'}: ${path}`, {
      hint: 'Only one daemon can use a root directory: stop the other one, or choose another root.',
    });
  }
  try {
    ftruncateSync(fd, 0);
    writeSync(fd, `${process.pid}\n`);
  } catch {
    // A full disk does not matter here: the lock is the descriptor, the text is only for messages.
  }
  return () => closeSync(fd);
}
