/** Inflating from the midst of gzip streams: pieces of random streams, at every block and every phase of bits. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { constants, gzipSync, type ZlibOptions } from 'node:zlib';
import { inflateFrom } from '../../src/codec/inflate.ts';
import { NymphError } from '../../src/errors.ts';
import { type BlockStart, scanGzip } from '../gzip.ts';

const int = (limit: number) => Math.floor(Math.random() * limit);

/** Text that compresses, with some noise and some long runs. */
function content(size: number): Buffer {
  const parts: Buffer[] = [];
  const words = Array.from({ length: 200 }, () => randomBytes(2 + int(12)).toString('base64'));
  for (let made = 0; made < size; ) {
    const kind = int(20);
    const part =
      kind === 0
        ? randomBytes(int(20_000))
        : kind === 1
          ? Buffer.alloc(int(70_000), int(256))
          : Buffer.from(Array.from({ length: int(400) }, () => words[int(200)]).join(' '));
    parts.push(part);
    made += part.length;
  }
  return Buffer.concat(parts).subarray(0, size);
}

/** Names, comments, extra fields and a checksum in the header: all that RFC 1952 allows. */
function withHeader(gzip: Buffer): Buffer {
  const extra = randomBytes(int(50));
  const parts = [Buffer.from(gzip.subarray(0, 10))];
  parts[0][3] = 4 | 8 | 16 | 2;
  parts.push(Buffer.from([extra.length, 0]), extra, Buffer.from('name\0comment\0'), Buffer.from([1, 2]));
  return Buffer.concat([...parts, gzip.subarray(10)]);
}

function startOf(block: BlockStart, all: Buffer) {
  const size = Math.min(block.inMember, 32 << 10);
  return {
    bits: block.bits,
    value: block.byte >> (8 - block.bits),
    dictionary: all.subarray(block.decoded - size, block.decoded),
  };
}

test('every piece of random streams decodes to what the whole stream has there', (t) => {
  const phases = new Map<number, number>();
  let members = 0;
  for (let round = 0; round < 30; round++) {
    const options: ZlibOptions = {
      level: int(10),
      memLevel: 1 + int(9),
      windowBits: 9 + int(7),
      strategy: [constants.Z_DEFAULT_STRATEGY, constants.Z_FIXED, constants.Z_HUFFMAN_ONLY, constants.Z_RLE][int(4)],
    };
    const pieces = Array.from({ length: 1 + int(3) }, () => {
      const gzip = gzipSync(content(int(300_000)), options);
      return int(2) === 0 ? gzip : withHeader(gzip);
    });
    const stream = Buffer.concat(pieces);
    const { blocks, content: all } = scanGzip(stream);
    for (let i = 0; i < Math.min(blocks.length, 40); i++) {
      const block = blocks[int(blocks.length)];
      // To an end anywhere: in the block, behind it, in the next member.
      const size = 1 + int(all.length - block.decoded);
      if (block.decoded === all.length) continue;
      const decoded = inflateFrom(startOf(block, all), stream.subarray(block.offset), size);
      assert.equal(Buffer.compare(decoded, all.subarray(block.decoded, block.decoded + size)), 0);
      phases.set(block.bits, (phases.get(block.bits) ?? 0) + 1);
      const next = blocks.find((other) => other.inMember === 0 && other.decoded > block.decoded);
      if (next !== undefined && next.decoded < block.decoded + size) members++;
    }
  }
  t.diagnostic(
    `pieces by stray bits: ${JSON.stringify(Object.fromEntries([...phases].sort()))}, ${members} over members`,
  );
  assert.deepEqual([...phases.keys()].sort(), [0, 1, 2, 3, 4, 5, 6, 7], 'all phases occurred');
  assert.ok(members > 10);
});

test('input that ends behind the last wanted bit is enough', () => {
  const all = content(200_000);
  const stream = gzipSync(all);
  const { blocks } = scanGzip(stream);
  for (let i = 1; i < blocks.length; i++) {
    const [block, next] = [blocks[i - 1], blocks[i]];
    const size = next.decoded - block.decoded;
    const decoded = inflateFrom(startOf(block, all), stream.subarray(block.offset, next.offset), size);
    assert.equal(Buffer.compare(decoded, all.subarray(block.decoded, next.decoded)), 0);
  }
});

test('hostile starts and input end in an error of ours, and never in more than was asked for', () => {
  const all = content(100_000);
  const stream = gzipSync(all, { memLevel: 3 });
  const block = scanGzip(stream).blocks.find(({ bits }) => bits > 0)!;
  const start = startOf(block, all);
  const input = stream.subarray(block.offset);
  const rest = all.length - block.decoded;
  const refused = (what: string, run: () => unknown) =>
    assert.throws(run, (error: unknown) => error instanceof NymphError && error.code === 'corrupt', what);
  refused('more than there is', () => inflateFrom(start, input, rest + 1));
  refused('cut input', () => inflateFrom(start, input.subarray(0, 100), rest));
  refused('no input', () => inflateFrom(start, input.subarray(0, 0), 1));
  refused('a trailer that is cut', () => inflateFrom(start, input.subarray(0, input.length - 4), rest + 1));
  const next = Buffer.concat([input, Buffer.from('not a gzip member, but some text')]);
  refused('something else behind the member', () => inflateFrom(start, next, rest + 1));
  const flags = Buffer.concat([input, Buffer.from([0x1f, 0x8b, 8, 0xff, 0, 0, 0, 0, 0, 0]), Buffer.alloc(100)]);
  refused('a header with unknown flags', () => inflateFrom(start, flags, rest + 1));
  const endless = Buffer.concat([input, Buffer.from([0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0]), Buffer.alloc(100, 65)]);
  refused('a name without end', () => inflateFrom(start, endless, rest + 1));
  const empty = gzipSync(Buffer.alloc(0));
  const members = Buffer.concat([input, ...Array.from({ length: 1 << 16 }, () => empty)]);
  refused('only empty members', () => inflateFrom(start, members, rest + 1));
  // 64 MB of zeros behind what is wanted: it is not kept.
  const bomb = gzipSync(Buffer.alloc(64 << 20)).subarray(10);
  refused('a bomb', () => inflateFrom({ bits: 0, value: 0, dictionary: new Uint8Array() }, bomb, 1));

  let wrong = 0;
  for (let round = 0; round < 500; round++) {
    const damaged = Buffer.from(input);
    damaged[int(damaged.length)] ^= 1 << int(8);
    const odd = { bits: int(8), value: int(128), dictionary: int(2) ? start.dictionary : randomBytes(int(32 << 10)) };
    odd.value &= (1 << odd.bits) - 1;
    try {
      assert.equal(inflateFrom(int(2) ? start : odd, damaged, rest).length, rest);
    } catch (error) {
      assert.ok(error instanceof NymphError, String(error));
      wrong++;
    }
  }
  assert.ok(wrong > 100, `${wrong}`);
});
