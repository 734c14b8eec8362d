import { BLOCK_SIZE } from '../image/image.ts';

/**
 * Which blocks of a blob are here: a bitmap in shared memory, one bit for each 4 KiB, that FUSE threads read while
 * work threads set it. A second bitmap of the same size holds *marks*: places where a reader's arrival is reported.
 *
 * Layout (32-bit words): [0] state, [1] blocks, [2] number of clears, then ready bits, then mark bits.
 */
export interface ReadyMap {
  readonly words: Int32Array<SharedArrayBuffer>;
  readonly blocks: number;
}

const STATE = 0;
const BLOCKS = 1;
const CLEARS = 2;
const HEADER = 3;
const CLOSED = 1;

const bitmapWords = (blocks: number) => Math.ceil(blocks / 32);

/** A map for a blob of `size` bytes, nothing ready. */
export function createReadyMap(size: number): ReadyMap {
  const blocks = Math.ceil(size / BLOCK_SIZE);
  const words = new Int32Array(new SharedArrayBuffer((HEADER + 2 * bitmapWords(blocks)) * 4));
  words[BLOCKS] = blocks;
  return { words, blocks };
}

/** The same map in another thread: only the shared buffer travels. */
export function attachReadyMap(buffer: SharedArrayBuffer): ReadyMap {
  const words = new Int32Array(buffer);
  return { words, blocks: words[BLOCKS] };
}

/** True if every block that `[offset, offset + length)` touches is here. */
export function isReady(map: ReadyMap, offset: number, length: number): boolean {
  return everyBit(map, HEADER, offset, length);
}

/** True if the range touches a mark; the marks there are taken away. */
export function takeMark(map: ReadyMap, offset: number, length: number): boolean {
  const base = HEADER + bitmapWords(map.blocks);
  let found = false;
  eachWord(map, base, offset, length, (word, mask) => {
    if ((Atomics.load(map.words, word) & mask) === 0) return;
    if ((Atomics.and(map.words, word, ~mask) & mask) !== 0) found = true;
  });
  return found;
}

/** Asks that the arrival of a reader at the block of `offset` be reported. */
export function setMark(map: ReadyMap, offset: number): void {
  eachWord(map, HEADER + bitmapWords(map.blocks), offset, 1, (word, mask) => Atomics.or(map.words, word, mask));
}

/** Says that every block the range touches is here. Call only after its bytes are in the file. */
export function setReady(map: ReadyMap, offset: number, length: number): void {
  eachWord(map, HEADER, offset, length, (word, mask) => Atomics.or(map.words, word, mask));
}

/** Takes back `setReady`, for bytes found wrong. */
export function clearReady(map: ReadyMap, offset: number, length: number): void {
  // Counted first: who sees the cleared bits sees the count.
  Atomics.add(map.words, CLEARS, 1);
  eachWord(map, HEADER, offset, length, (word, mask) => Atomics.and(map.words, word, ~mask));
}

/** Changes with every `clearReady`: a bit that was cleared and set again looks untouched, but its data is new. */
export function countClears(map: ReadyMap): number {
  return Atomics.load(map.words, CLEARS);
}

/** Number of blocks that are here. */
export function countReady(map: ReadyMap): number {
  let total = 0;
  for (let word = HEADER; word < HEADER + bitmapWords(map.blocks); word++) total += popCount(map.words[word]);
  return total;
}

/** Words that are looked at for one cell: of a larger blob every n-th. */
const MOST_WORDS = 16;

/** How much of each of `cells` parts of the blob is here, 0 to 255: a picture, at the same cost for a blob of any size. */
export function readyCells({ words, blocks }: ReadyMap, cells: number): Uint8Array {
  if (blocks === 0) return Uint8Array.of(255);
  const result = new Uint8Array(Math.max(1, Math.min(cells, blocks)));
  for (let cell = 0; cell < result.length; cell++) {
    const from = Math.floor((cell * blocks) / result.length);
    const to = Math.floor(((cell + 1) * blocks) / result.length);
    const first = from >>> 5;
    const last = Math.max(first, (to - 1) >>> 5);
    const step = Math.ceil((last - first + 1) / MOST_WORDS);
    let ready = 0;
    let seen = 0;
    for (let word = first; word <= last; word += step) {
      let mask = word === first ? -1 << (from & 31) : -1;
      if (word === last) mask &= -1 >>> (31 - ((to - 1) & 31));
      ready += popCount(words[HEADER + word] & mask);
      seen += popCount(mask);
    }
    // Never full while something is missing, as far as it was looked at.
    result[cell] = ready === seen ? 255 : Math.min(254, Math.ceil((255 * ready) / seen));
  }
  return result;
}

/** The ready bits as bytes: a copy, block `i` in byte `i >> 3`, bit `i & 7`, padded with zeros to whole 32-bit words. */
export function readyBytes(map: ReadyMap): Uint8Array<ArrayBuffer> {
  // One copy takes a third of the time of a load for each word; a word is never torn.
  return new Uint8Array(map.words.slice(HEADER, HEADER + bitmapWords(map.blocks)).buffer);
}

/** Sets the bits that `bytes` (as `readyBytes` gives them) has set, within the map's size. */
export function addReadyBytes(map: ReadyMap, bytes: Uint8Array): void {
  eachWord(map, HEADER, 0, map.blocks * BLOCK_SIZE, (word, mask) => {
    const at = (word - HEADER) * 4;
    const bits = bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24);
    if ((bits & mask) !== 0) Atomics.or(map.words, word, bits & mask);
  });
}

/** Tells threads that the file behind the map is about to be closed. */
export function closeReadyMap(map: ReadyMap): void {
  Atomics.store(map.words, STATE, CLOSED);
}

/** Takes back `closeReadyMap`: the file is served again. */
export function openReadyMap(map: ReadyMap): void {
  Atomics.store(map.words, STATE, 0);
}

export function isClosed(map: ReadyMap): boolean {
  return Atomics.load(map.words, STATE) === CLOSED;
}

function everyBit(map: ReadyMap, base: number, offset: number, length: number): boolean {
  if (length <= 0) return true;
  const first = Math.floor(offset / BLOCK_SIZE);
  const last = Math.floor((offset + length - 1) / BLOCK_SIZE);
  if (offset < 0 || last >= map.blocks) return false;
  const lastWord = last >>> 5;
  let word = first >>> 5;
  let mask = -1 << (first & 31);
  for (; word <= lastWord; word++) {
    if (word === lastWord) mask &= -1 >>> (31 - (last & 31));
    if ((Atomics.load(map.words, base + word) & mask) !== mask) return false;
    mask = -1;
  }
  return true;
}

function eachWord(
  map: ReadyMap,
  base: number,
  offset: number,
  length: number,
  visit: (word: number, mask: number) => void,
): void {
  if (length <= 0 || offset < 0) return;
  const first = Math.floor(offset / BLOCK_SIZE);
  const last = Math.min(Math.floor((offset + length - 1) / BLOCK_SIZE), map.blocks - 1);
  // Also for an empty map: bit operations on -1 or on more than 2^32 blocks would wrap.
  if (first > last) return;
  for (let word = first >>> 5; word <= last >>> 5; word++) {
    let mask = word === first >>> 5 ? -1 << (first & 31) : -1;
    if (word === last >>> 5) mask &= -1 >>> (31 - (last & 31));
    visit(base + word, mask);
  }
}

function popCount(word: number): number {
  let x = word - ((word >>> 1) & 0x55555555);
  x = (x & 0x33333333) + ((x >>> 2) & 0x33333333);
  return Math.imul((x + (x >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
