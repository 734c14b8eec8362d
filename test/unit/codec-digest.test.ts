import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { DIGEST_SIZE, digestEquals, digestOf } from '../../src/codec/digest.ts';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

// FIPS 180-4 examples, and BLAKE3's test_vectors.json (input: bytes 0, 1, … 250, 0, 1, …).
const SHA256_EMPTY = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';
const SHA256_ABC = 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad';
const BLAKE3_EMPTY = 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262';
const BLAKE3_1 = '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213';

test('known digests', () => {
  assert.equal(hex(digestOf('sha256', new Uint8Array())), SHA256_EMPTY);
  assert.equal(hex(digestOf('sha256', Buffer.from('abc'))), SHA256_ABC);
  assert.equal(hex(digestOf('blake3', new Uint8Array())), BLAKE3_EMPTY);
  assert.equal(hex(digestOf('blake3', Uint8Array.of(0))), BLAKE3_1);
});

test('a view of a larger buffer is hashed as the view', () => {
  const bytes = randomBytes(100);
  for (const algorithm of ['sha256', 'blake3'] as const) {
    assert.equal(
      hex(digestOf(algorithm, new Uint8Array(bytes.buffer, bytes.byteOffset + 10, 50))),
      hex(digestOf(algorithm, Uint8Array.from(bytes.subarray(10, 60)))),
    );
  }
});

test('digestEquals finds a difference in every byte, and nothing outside the table', () => {
  const table = randomBytes(5 * DIGEST_SIZE);
  const digest = Uint8Array.from(table.subarray(2 * DIGEST_SIZE, 3 * DIGEST_SIZE));
  for (let index = -1; index <= 6; index++) assert.equal(digestEquals(table, index, digest), index === 2);
  for (let i = 0; i < DIGEST_SIZE; i++) {
    const other = Uint8Array.from(digest);
    other[i] ^= 1;
    assert.equal(digestEquals(table, 2, other), false);
  }
  assert.equal(digestEquals(table, 2, digest.subarray(0, 31)), false);
  assert.equal(digestEquals(table, 5, new Uint8Array()), false);
});
