/** Ways to read a whole file: each gives the SHA-256 of the content, by another path through the kernel. */
import { createHash } from 'node:crypto';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import koffi from 'koffi';

export type How = 'order' | 'random' | 'mmap';

/** A number in [0, 1) at each call, the same series for the same seed (mulberry32). */
export function randomSeries(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/**
 * Reads `size` bytes of a file and its end.
 * @param random a series for the offsets and lengths of `random` and the order of pages of `mmap`
 * @returns SHA-256 in hex, or what went wrong: the error's code, or where the file ended too early or too late
 */
export function digestFile(path: Buffer, size: number, how: How, random: () => number): string {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    return `open: ${(error as NodeJS.ErrnoException).code}`;
  }
  try {
    if (how === 'mmap') return digestMapped(fd, size, random);
    return how === 'random' ? digestRandom(fd, size, random) : digestInOrder(fd, size);
  } catch (error) {
    return `read: ${(error as NodeJS.ErrnoException).code ?? error}`;
  } finally {
    closeSync(fd);
  }
}

const PIECE = 1 << 20;
const piece = Buffer.alloc(PIECE);

function digestInOrder(fd: number, size: number): string {
  const hash = createHash('sha256');
  let total = 0;
  for (;;) {
    const length = readSync(fd, piece, 0, PIECE, null);
    if (length === 0) break;
    hash.update(piece.subarray(0, length));
    total += length;
  }
  return total === size ? hash.digest('hex') : `ended at ${total} of ${size}`;
}

const WINDOW = 128 << 20;
const MAX_READ = 512 << 10;

/** The file in windows that fit memory; in each, pieces of random length in random order, then reads across the end. */
function digestRandom(fd: number, size: number, random: () => number): string {
  const hash = createHash('sha256');
  const window = Buffer.alloc(Math.min(size, WINDOW));
  for (let base = 0; base < size; base += WINDOW) {
    const length = Math.min(WINDOW, size - base);
    const cuts = [0];
    // Cubing prefers short reads, so small ranges and ranges over several chunks both occur.
    while (cuts[cuts.length - 1] < length)
      cuts.push(Math.min(length, cuts[cuts.length - 1] + 1 + Math.floor(random() ** 3 * MAX_READ)));
    for (const i of shuffled(cuts.length - 1, random)) {
      const read = readSync(fd, window, cuts[i], cuts[i + 1] - cuts[i], base + cuts[i]);
      if (read !== cuts[i + 1] - cuts[i])
        return `read of ${cuts[i + 1] - cuts[i]} at ${base + cuts[i]} gave ${read} (of ${size})`;
    }
    hash.update(window.subarray(0, length));
  }
  for (let i = 0; i < 4; i++) {
    const offset = size + Math.floor(random() * 10000) - 5000;
    const read = readSync(fd, piece, 0, 16384, Math.max(0, offset));
    const expected = Math.min(16384, Math.max(0, size - Math.max(0, offset)));
    if (read !== expected) return `read of 16384 at ${Math.max(0, offset)} gave ${read} (of ${size})`;
  }
  return hash.digest('hex');
}

const libc = koffi.load('libc.so.6');
const mmap = libc.func('void *mmap(void *address, size_t length, int protection, int flags, int fd, int64_t offset)');
const munmap = libc.func('int munmap(void *address, size_t length)');
const PROT_READ = 1;
const MAP_SHARED = 1;
const PAGE = 4096;

/** Touches the pages of each window in random order, then hashes. A read error of the kernel is a SIGBUS and ends the process. */
function digestMapped(fd: number, size: number, random: () => number): string {
  const hash = createHash('sha256');
  for (let base = 0; base < size; base += WINDOW) {
    const length = Math.min(WINDOW, size - base);
    const address = mmap(null, length, PROT_READ, MAP_SHARED, fd, base) as bigint | null;
    if (address === null || koffi.address(address) === 0xffffffffffffffffn) return `mmap: errno ${koffi.errno()}`;
    const view = new Uint8Array(koffi.view(address, length));
    let touched = 0;
    for (const page of shuffled(Math.ceil(length / PAGE), random)) touched += view[page * PAGE];
    const copy = Buffer.from(view);
    munmap(address, length);
    for (let offset = 0; offset < length; offset += PAGE) touched -= copy[offset];
    if (touched !== 0) return `mapping at ${base} changed while it was read`;
    hash.update(copy);
  }
  return hash.digest('hex');
}

function shuffled(count: number, random: () => number): Uint32Array {
  const order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [order[i], order[j]] = [order[j], order[i]];
  }
  return order;
}
