import { mutateJson } from './mutate-json.ts';
import type { Random } from './random.ts';

/** What inputs are changed with. */
export interface Material {
  readonly random: Random;
  readonly words: readonly Uint8Array[];
  readonly text: boolean;
  /** Longest result, bytes. */
  readonly limit: number;
}

type Change = (bytes: Buffer, material: Material, other: Uint8Array) => Buffer;

const EDGES = [0, 1, 2, 3, 4, 7, 8, 0x10, 0x20, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x10000];
const WIDE_EDGES = [0xfff, 0x1000, 0x1001, 0xfffff, 0x100000, 0x7fffffff, 0x80000000, 0xfffff000, 0xffffffff];
const HUGE_EDGES = [2n ** 32n, 2n ** 44n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n, 2n ** 64n - 1n];
/** Lengths of records in the formats that are read here. */
const STEPS = [1, 2, 4, 8, 12, 16, 24, 32, 40, 64, 80, 128, 256, 512, 4096];
const LETTERS =
  '0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-./:@"\'\\{}[]()<>=,;!~^$%*+?# \t\r\n\0é€𝄞';

/** Changes a copy of `input`, in some ways; `other` lends bytes. */
export function mutate(input: Uint8Array, other: Uint8Array, material: Material): Buffer {
  const { random, text, limit } = material;
  let bytes: Buffer = Buffer.from(input);
  for (let times = 1 << random.int(4); times > 0; times--) {
    const change = random.pick(text ? TEXT_CHANGES : BINARY_CHANGES);
    bytes = change(bytes, material, other);
  }
  return bytes.length > limit ? bytes.subarray(0, limit) : bytes;
}

/** A place, mostly one that holds something: formats are full of zeros. */
function placeIn(bytes: Buffer, random: Random, width: number): number {
  const room = bytes.length - width + 1;
  let at = 0;
  for (let tries = 0; tries < 6; tries++) {
    at = random.int(room);
    if (width > 1 && !random.oneIn(4)) at -= at % Math.min(width, 4);
    if (bytes[at] !== 0) return at;
  }
  return at;
}

const setByte: Change = (bytes, { random }) => {
  if (bytes.length > 0) bytes[placeIn(bytes, random, 1)] = random.oneIn(2) ? random.pick(EDGES) : random.int(256);
  return bytes;
};

const flipBit: Change = (bytes, { random }) => {
  if (bytes.length > 0) bytes[placeIn(bytes, random, 1)] ^= 1 << random.int(8);
  return bytes;
};

/** A number of 16, 32 or 64 bits becomes an edge value, another number of the input, its length, or a near one. */
const setNumber: Change = (bytes, { random }) => {
  const width = random.pick([2, 4, 4, 8]);
  if (bytes.length < width) return bytes;
  const at = placeIn(bytes, random, width);
  const little = !random.oneIn(16);
  const mask = (1n << BigInt(width * 8)) - 1n;
  let value = readNumber(bytes, at, width, little);
  switch (random.int(6)) {
    case 0:
      value = BigInt(random.pick(EDGES));
      break;
    case 1:
      value = random.oneIn(2) ? BigInt(random.pick(WIDE_EDGES)) : random.pick(HUGE_EDGES);
      break;
    case 2:
      value = BigInt(bytes.length) + BigInt(random.int(17) - 8);
      break;
    case 3:
      value = readNumber(bytes, placeIn(bytes, random, width), width, little);
      break;
    case 4:
      value += BigInt(random.pick(STEPS)) * (random.oneIn(2) ? 1n : -1n);
      break;
    default:
      value += BigInt(random.int(71) - 35);
  }
  writeNumber(bytes, at, width, little, value & mask);
  return bytes;
};

function readNumber(bytes: Buffer, at: number, width: number, little: boolean): bigint {
  let value = 0n;
  for (let i = 0; i < width; i++) value |= BigInt(bytes[at + i]) << BigInt(8 * (little ? i : width - 1 - i));
  return value;
}

function writeNumber(bytes: Buffer, at: number, width: number, little: boolean, value: bigint): void {
  for (let i = 0; i < width; i++) bytes[at + i] = Number((value >> BigInt(8 * (little ? i : width - 1 - i))) & 0xffn);
}

/** A record's length, or any. */
function lengthIn(bytes: Uint8Array, random: Random): number {
  return Math.min(bytes.length, random.oneIn(2) ? random.pick(STEPS) * (1 + random.int(4)) : 1 + random.int(64));
}

/** Part of the same input, over another part. */
const copyWithin: Change = (bytes, { random }) => {
  const length = lengthIn(bytes, random);
  const from = random.int(bytes.length - length + 1);
  bytes.copyWithin(placeIn(bytes, random, length), from, from + length);
  return bytes;
};

const swap: Change = (bytes, { random }) => {
  const length = Math.min(lengthIn(bytes, random), bytes.length >> 1);
  const [a, b] = [placeIn(bytes, random, length), placeIn(bytes, random, length)];
  const kept = Buffer.from(bytes.subarray(a, a + length));
  bytes.copyWithin(a, b, b + length);
  kept.copy(bytes, b);
  return bytes;
};

const fill: Change = (bytes, { random }) => {
  const length = lengthIn(bytes, random);
  const at = placeIn(bytes, random, length);
  return bytes.fill(random.pick([0, 0, 0xff, 0x41]), at, at + length);
};

const remove: Change = (bytes, { random }) => {
  const length = lengthIn(bytes, random);
  const at = random.int(bytes.length - length + 1);
  return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
};

/** Repeats a part, once or often. */
const repeat: Change = (bytes, { random, limit }) => {
  const length = lengthIn(bytes, random);
  if (length === 0) return bytes;
  const at = random.int(bytes.length - length + 1);
  const times = Math.min(random.oneIn(8) ? 1 << random.int(12) : 1, Math.ceil(limit / length));
  const part = bytes.subarray(at, at + length);
  return Buffer.concat([bytes.subarray(0, at), ...new Array<Buffer>(times).fill(part), bytes.subarray(at)]);
};

const truncate: Change = (bytes, { random }) => {
  const end = random.int(bytes.length + 1);
  return bytes.subarray(0, random.oneIn(2) ? end : end - (end % 4096));
};

const splice: Change = (bytes, { random }, other) => {
  const length = random.oneIn(3) ? random.int(other.length + 1) : lengthIn(other, random);
  const from = random.int(other.length - length + 1);
  const part = other.subarray(from, from + length);
  // Often at its own place, where a format has the same fields.
  const at = random.oneIn(2) ? Math.min(from, bytes.length) : random.int(bytes.length + 1);
  const over = random.oneIn(2) ? length : 0;
  return Buffer.concat([bytes.subarray(0, at), part, bytes.subarray(at + over)]);
};

const putWord: Change = (bytes, { random, words }) => {
  if (words.length === 0) return bytes;
  const word = random.pick(words);
  const at = random.int(bytes.length + 1);
  const over = random.oneIn(2) ? word.length : 0;
  return Buffer.concat([bytes.subarray(0, at), word, bytes.subarray(at + over)]);
};

/** A token becomes a word, or another token. */
const changeToken: Change = (bytes, { random, words }, other) => {
  const [start, end] = tokenAt(bytes, random);
  const [from, to] = tokenAt(other, random);
  const given = words.length > 0 && !random.oneIn(3) ? random.pick(words) : Buffer.from(other.subarray(from, to));
  return Buffer.concat([bytes.subarray(0, start), given, bytes.subarray(end)]);
};

function tokenAt(bytes: Uint8Array, random: Random): [start: number, end: number] {
  const inside = (at: number) => {
    const byte = bytes[at] | 0x20;
    return (byte >= 0x61 && byte <= 0x7a) || (bytes[at] >= 0x30 && bytes[at] <= 0x39) || bytes[at] >= 0x80;
  };
  let start = random.int(bytes.length + 1);
  let end = start;
  while (start > 0 && inside(start - 1)) start--;
  while (end < bytes.length && inside(end)) end++;
  return [start, end];
}

const putLetter: Change = (bytes, { random }) => {
  const letter = Buffer.from(random.pick([...LETTERS]));
  const at = random.int(bytes.length + 1);
  return Buffer.concat([bytes.subarray(0, at), letter, bytes.subarray(at + (random.oneIn(2) ? 1 : 0))]);
};

const NUMBERS = ['0', '-1', '1', '4096', '65536', '4294967295', '4294967296', '9007199254740991', '9007199254740993'];
const ODD_NUMBERS = [
  '18446744073709551616',
  '1e308',
  '1e999',
  '-0',
  '0.5',
  '007',
  '0x10',
  '1_000',
  'NaN',
  '99999999999999999999999',
];

const putNumber: Change = (bytes, { random }) => {
  const given = Buffer.from(random.pick(random.oneIn(2) ? NUMBERS : ODD_NUMBERS));
  let at = random.int(bytes.length + 1);
  while (at < bytes.length && !(bytes[at] >= 0x30 && bytes[at] <= 0x39)) at++;
  let end = at;
  while (end < bytes.length && bytes[end] >= 0x30 && bytes[end] <= 0x39) end++;
  return Buffer.concat([bytes.subarray(0, at), given, bytes.subarray(end)]);
};

const changeJson: Change = (bytes, { random }) => {
  const changed = mutateJson(bytes.toString('latin1'), random);
  return changed === undefined ? bytes : Buffer.from(changed, 'latin1');
};

const BINARY_CHANGES: readonly Change[] = [
  ...[setNumber, setNumber, setNumber, setNumber, setByte, setByte, flipBit, flipBit],
  ...[copyWithin, copyWithin, swap, fill, remove, repeat, truncate, splice, splice, putWord],
];

const TEXT_CHANGES: readonly Change[] = [
  ...[changeJson, changeJson, changeJson, changeJson],
  ...[changeToken, changeToken, changeToken, putWord, putWord, putNumber, putNumber, putLetter, putLetter],
  ...[setByte, copyWithin, swap, remove, remove, repeat, truncate, splice, splice],
];
