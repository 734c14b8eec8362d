/** Looks into gzip streams, for tests: where their deflate blocks begin. Slow and simple (RFC 1951, RFC 1952). */

/** A place where decoding may begin. */
export interface BlockStart {
  /** First whole byte, and the upper bits of the byte before that belong to the block: their number and that byte. */
  offset: number;
  bits: number;
  byte: number;
  /** Decoded bytes before it, in the whole stream and in its member. */
  decoded: number;
  inMember: number;
}

const LENGTH_BASE = [
  3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258,
];
const LENGTH_EXTRA = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const DISTANCE_BASE = [
  1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145,
  8193, 12289, 16385, 24577,
];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];

/** Symbols sorted by code, and how many codes have each length. */
interface Code {
  count: Uint16Array;
  symbols: Uint16Array;
}

function codeOf(lengths: ArrayLike<number>): Code {
  const count = new Uint16Array(16);
  for (let i = 0; i < lengths.length; i++) count[lengths[i]]++;
  const next = new Uint16Array(16);
  for (let length = 1; length < 15; length++) next[length + 1] = next[length] + count[length];
  const symbols = new Uint16Array(lengths.length);
  for (let i = 0; i < lengths.length; i++) if (lengths[i] > 0) symbols[next[lengths[i]]++] = i;
  count[0] = 0;
  return { count, symbols };
}

const FIXED = codeOf(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8)));
const FIXED_DISTANCE = codeOf(new Array(30).fill(5));

/** Decodes the stream, all its members, and says where each block begins. */
export function scanGzip(bytes: Uint8Array): { blocks: BlockStart[]; content: Buffer } {
  const blocks: BlockStart[] = [];
  let out = Buffer.alloc(bytes.length * 4 + 1024);
  let size = 0;
  let bit = 0;

  const take = (count: number): number => {
    let value = 0;
    for (let i = 0; i < count; i++, bit++) value |= ((bytes[bit >> 3] >> (bit & 7)) & 1) << i;
    return value;
  };
  const symbol = ({ count, symbols }: Code): number => {
    let code = 0;
    let first = 0;
    let index = 0;
    for (let length = 1; length <= 15; length++, bit++) {
      code |= (bytes[bit >> 3] >> (bit & 7)) & 1;
      const has = count[length];
      if (code - has < first) {
        bit++;
        return symbols[index + code - first];
      }
      index += has;
      first = (first + has) << 1;
      code <<= 1;
    }
    throw new Error('no such code');
  };
  const room = (more: number) => {
    if (size + more > out.length) out = Buffer.concat([out, Buffer.alloc(out.length + more)]);
  };

  for (let at = 0; at < bytes.length; ) {
    bit = headerEnd(bytes, at) * 8;
    const member = size;
    for (let last = false; !last; ) {
      const offset = Math.ceil(bit / 8);
      blocks.push({ offset, bits: offset * 8 - bit, byte: bytes[offset - 1], decoded: size, inMember: size - member });
      last = take(1) === 1;
      const type = take(2);
      if (type === 0) {
        bit = Math.ceil(bit / 8) * 8;
        const length = take(16);
        bit += 16;
        room(length);
        out.set(bytes.subarray(bit >> 3, (bit >> 3) + length), size);
        size += length;
        bit += length * 8;
        continue;
      }
      const [literals, distances] = type === 1 ? [FIXED, FIXED_DISTANCE] : readCodes(take, symbol);
      for (;;) {
        const found = symbol(literals);
        room(258);
        if (found < 256) out[size++] = found;
        else if (found === 256) break;
        else {
          const length = LENGTH_BASE[found - 257] + take(LENGTH_EXTRA[found - 257]);
          const far = symbol(distances);
          const distance = DISTANCE_BASE[far] + take(Math.max(0, (far >> 1) - 1));
          for (let i = 0; i < length; i++, size++) out[size] = out[size - distance];
        }
      }
    }
    at = Math.ceil(bit / 8) + 8;
  }
  return { blocks, content: out.subarray(0, size) };
}

function readCodes(take: (bits: number) => number, symbol: (code: Code) => number): [Code, Code] {
  const literals = take(5) + 257;
  const distances = take(5) + 1;
  const count = take(4) + 4;
  const lengths = new Uint8Array(19);
  for (let i = 0; i < count; i++) lengths[ORDER[i]] = take(3);
  const code = codeOf(lengths);
  const all: number[] = [];
  while (all.length < literals + distances) {
    const found = symbol(code);
    if (found < 16) all.push(found);
    else {
      const [value, times] =
        found === 16 ? [all[all.length - 1], 3 + take(2)] : [0, found === 17 ? 3 + take(3) : 11 + take(7)];
      for (let i = 0; i < times; i++) all.push(value);
    }
  }
  return [codeOf(all.slice(0, literals)), codeOf(all.slice(literals))];
}

function headerEnd(bytes: Uint8Array, start: number): number {
  if (bytes[start] !== 0x1f || bytes[start + 1] !== 0x8b) throw new Error(`no gzip member at ${start}`);
  const flags = bytes[start + 3];
  let at = start + 10;
  if ((flags & 4) !== 0) at += 2 + bytes[at] + bytes[at + 1] * 256;
  for (const flag of [8, 16]) if ((flags & flag) !== 0) at = bytes.indexOf(0, at) + 1;
  return (flags & 2) !== 0 ? at + 2 : at;
}
