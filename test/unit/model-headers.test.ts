/** What readers of weights look at first. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { headerRanges } from '../../src/formats/weights/header.ts';
import { indexOrder } from '../../src/formats/weights/index-order.ts';
import type { FileRange } from '../../src/formats/weights/reading.ts';
import { refused } from '../refused.ts';

const MIB = 1 << 20;

/** The ranges of a file that begins and ends with these bytes, and how much of it was looked at. */
async function look(
  path: string,
  size: number,
  begin: Uint8Array,
  end: Uint8Array = Buffer.alloc(0),
): Promise<{ ranges: FileRange[]; seen: number }> {
  let seen = 0;
  const ranges = await headerRanges(path, size, async (offset, length) => {
    assert.ok(offset >= 0 && length > 0 && length <= MIB && offset + length <= size, `${length} bytes at ${offset}`);
    seen += length;
    const bytes = Buffer.alloc(length);
    if (offset < begin.length) bytes.set(begin.subarray(offset, offset + length));
    const tail = size - end.length;
    for (let i = Math.max(0, tail - offset); i < length; i++) bytes[i] = end[offset + i - tail];
    return bytes;
  });
  return { ranges, seen };
}

async function isRefused(path: string, size: number, begin: Uint8Array, end?: Uint8Array): Promise<void> {
  assert.equal((await refused(look(path, size, begin, end))).code, 'corrupt');
}

function safetensors(length: bigint, first = '{'): Buffer {
  const head = Buffer.alloc(16, first);
  head.writeBigUInt64LE(length);
  return head;
}

test('the header of safetensors is as long as its first 8 bytes say, within reason', async () => {
  const { ranges } = await look('x/a.safetensors', 48e9, safetensors(2_500_000n));
  assert.deepEqual(ranges, [{ offset: 0, length: 2_500_008 }]);
  for (const length of [100n << 30n, 2n ** 64n - 1n]) await isRefused('a.safetensors', 48e9, safetensors(length));
  await isRefused('a.safetensors', 1000, safetensors(2_500_000n));
  await isRefused('a.safetensors', 48e9, safetensors(10n, 'x'));
  assert.deepEqual((await look('a.bin', 48e9, safetensors(10n))).ranges, []);
  assert.deepEqual((await look('a.safetensors', 3, Buffer.alloc(3))).ranges, []);
});

const u32 = (value: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
};
const u64 = (value: number | bigint) => {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
};
const text = (value: string) => Buffer.concat([u64(value.length), Buffer.from(value)]);
const pair = (key: string, type: number, ...value: Buffer[]) => Buffer.concat([text(key), u32(type), ...value]);
const tensor = (name: string) => Buffer.concat([text(name), u32(2), u64(64), u64(64), u32(0), u64(0)]);
const gguf = (pairs: Buffer[], tensors: Buffer[], version = 3) =>
  Buffer.concat([Buffer.from('GGUF'), u32(version), u64(tensors.length), u64(pairs.length), ...pairs, ...tensors]);

describe('GGUF', () => {
  const tokens = Array.from({ length: 150_000 }, (_, i) => text(`token ${i}`));
  const header = gguf(
    [
      pair('general.architecture', 8, text('llama')),
      pair('general.alignment', 4, u32(32)),
      pair('a.float', 12, u64(0)),
      pair('a.flag', 7, Buffer.from([1])),
      pair('tokens', 9, u32(8), u64(tokens.length), Buffer.concat(tokens)),
      pair('scores', 9, u32(6), u64(tokens.length), Buffer.alloc(4 * tokens.length)),
    ],
    Array.from({ length: 300 }, (_, i) => tensor(`blk.${i}.weight`)),
  );

  test('its header goes as far as the last tensor is described, whatever the tokenizer takes', async () => {
    for (const version of [2, 3]) {
      header.writeUInt32LE(version, 4);
      const { ranges, seen } = await look('model', 48e9, header);
      assert.deepEqual(ranges, [{ offset: 0, length: header.length }]);
      assert.ok(header.length > 3 * MIB && seen < header.length + MIB, `${seen} bytes`);
    }
  });

  test('what cannot be one is refused before much of it is looked at', async () => {
    const array = (type: number, count: number | bigint) => gguf([pair('a', 9, u32(type), u64(count))], []);
    for (const bytes of [
      gguf([], [], 1),
      gguf([], [], 0x0300_0000),
      gguf([pair('a', 13)], []),
      gguf([Buffer.concat([u64(2n ** 63n), Buffer.from('a')])], []),
      gguf([], [Buffer.concat([text('a'), u32(5)])]),
      array(8, 2n ** 64n - 1n),
      array(10, 2n ** 61n),
      array(9, 1),
      Buffer.concat([Buffer.from('GGUF'), u32(3), u64(2n ** 40n), u64(1)]),
      Buffer.concat([Buffer.from('GGUF'), u32(3), u64(1), u64(2n ** 40n)]),
    ])
      await isRefused('m.gguf', 48e9, bytes);
    for (const length of [4, 8, 23, 24, 60, 4000]) await isRefused('m.gguf', length, header.subarray(0, length));
  });
});

describe('PyTorch', () => {
  const zip = Buffer.from('PK\x03\x04............');
  /** The end of the directory, and what comes with it in archives over 4 GiB. */
  const end = (offset: number, comment = '') => {
    const bytes = Buffer.concat([Buffer.alloc(22), Buffer.from(comment)]);
    bytes.writeUInt32LE(0x06054b50, 0);
    bytes.writeUInt32LE(offset, 16);
    bytes.writeUInt16LE(comment.length, 20);
    return bytes;
  };
  const large = (offset: bigint, at: bigint) => {
    const record = Buffer.alloc(56);
    record.writeUInt32LE(0x06064b50, 0);
    record.writeBigUInt64LE(offset, 48);
    const locator = Buffer.alloc(20);
    locator.writeUInt32LE(0x07064b50, 0);
    locator.writeBigUInt64LE(at, 8);
    return Buffer.concat([record, locator, end(0xffff_ffff)]);
  };

  test('the directory of its zip archives is where their end says', async () => {
    const found = async (size: number, bytes: Buffer) => (await look('pytorch_model.bin', size, zip, bytes)).ranges;
    assert.deepEqual(await found(1e9, end(9e8 + 6e7)), [{ offset: 9.6e8, length: 4e7 }]);
    assert.deepEqual(await found(1e9, end(999_000_000, 'a comment')), [{ offset: 999_000_000, length: 1_000_000 }]);
    const size = 48e9;
    assert.deepEqual(await found(size, large(47_999_000_000n, BigInt(size - 98))), [
      { offset: 47_999_000_000, length: 1_000_000 },
    ]);
  });

  test('one that has none, or one that leads elsewhere, is refused', async () => {
    for (const bytes of [
      Buffer.alloc(100),
      end(5),
      end(0xffff_fff0),
      large(2n ** 63n, BigInt(1e9 - 98)),
      large(1n, 2n ** 63n),
      large(999_000_000n, 5n),
    ])
      await isRefused('a.pt', 1e9, zip, bytes);
    await isRefused('a.pt', 16, zip);
  });
});

test('shards come in the order in which the index first names them', () => {
  const order = (weight_map: unknown) => indexOrder(JSON.stringify({ weight_map }));
  assert.deepEqual(order({ c: 'two', a: 'one', b: 'two' }), ['two', 'one']);
  assert.deepEqual(order({ a: 1, b: null, c: 'x' }), ['x']);
  for (const wrong of [null, 'x', 7, undefined]) assert.deepEqual(order(wrong), []);
  for (const wrong of ['', '{', 'null', '[]']) assert.deepEqual(indexOrder(wrong), []);
});
