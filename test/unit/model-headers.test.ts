import assert from 'node:assert/strict';
import { test } from 'node:test';
import { headerRanges, indexOrder } from '../../src/formats/files/headers.ts';

const MIB = 1 << 20;

function safetensors(length: bigint, first = '{'): Buffer {
  const head = Buffer.alloc(16, first);
  head.writeBigUInt64LE(length);
  return head;
}

test('the header of safetensors is as long as its first 8 bytes say, within reason', () => {
  assert.deepEqual(headerRanges('x/a.safetensors', safetensors(2_500_000n), 48e9), [{ offset: 0, length: 2_500_008 }]);
  assert.deepEqual(headerRanges('a.safetensors', safetensors(2_500_000n), 1000), [{ offset: 0, length: 1000 }]);
  for (const length of [100n << 30n, 2n ** 64n - 1n])
    assert.deepEqual(headerRanges('a.safetensors', safetensors(length), 48e9), []);
  assert.deepEqual(headerRanges('a.safetensors', safetensors(10n, 'x'), 48e9), []);
  assert.deepEqual(headerRanges('a.bin', safetensors(10n), 48e9), []);
  assert.deepEqual(headerRanges('a.safetensors', Buffer.alloc(3), 3), []);
});

test('of GGUF the beginning, of zip archives the end', () => {
  assert.deepEqual(headerRanges('m.gguf', Buffer.from('GGUF\x03\0\0\0'), 48e9), [{ offset: 0, length: 8 * MIB }]);
  const zip = Buffer.from('PK\x03\x04....');
  assert.deepEqual(headerRanges('pytorch_model.bin', zip, 48e9), [{ offset: 48e9 - MIB, length: MIB }]);
  assert.deepEqual(headerRanges('pytorch_model.bin', zip, 100), [{ offset: 0, length: 100 }]);
});

test('shards come in the order in which the index first names them', () => {
  const order = (weight_map: unknown) => indexOrder(JSON.stringify({ weight_map }));
  assert.deepEqual(order({ c: 'two', a: 'one', b: 'two' }), ['two', 'one']);
  assert.deepEqual(order({ a: 1, b: null, c: 'x' }), ['x']);
  for (const wrong of [null, 'x', 7, undefined]) assert.deepEqual(order(wrong), []);
  for (const text of ['', '{', 'null', '[]']) assert.deepEqual(indexOrder(text), []);
});
