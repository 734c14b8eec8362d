import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { constants, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { compressSync } from 'lz4-napi';
import { decodeFrame } from '../../src/codec/frame.ts';
import { NymphError } from '../../src/errors.ts';
import { CODECS, type Codec } from '../../src/image/image.ts';

const MiB = 1024 * 1024;

/** Half noise, half text: compresses to about half, and hits both literals and matches. */
function sample(size: number): Uint8Array {
  const noise = randomBytes(size);
  for (let i = 0; i < size; i++) if (i & 64) noise[i] = i & 7;
  return noise;
}

const encode: Record<Codec, (raw: Uint8Array) => Uint8Array> = {
  none: (raw) => raw,
  lz4_block: (raw) => compressSync(Buffer.from(raw)).subarray(4),
  gzip: (raw) => gzipSync(raw),
  zstd: (raw) => zstdCompressSync(raw),
};

const isCorrupt = (error: unknown) => error instanceof NymphError && error.code === 'corrupt';

test('every codec gives back what was encoded, at all sizes', () => {
  for (const codec of CODECS) {
    for (const size of [1, 2, 63, 64, 65, 4095, 4096, 4097, 65536, MiB, MiB + 1, 5 * MiB]) {
      const raw = sample(size);
      const decoded = decodeFrame(codec, encode[codec](raw), size);
      assert.ok(Buffer.from(raw).equals(decoded), `${codec} ${size}`);
    }
  }
});

test('incompressible and constant input come back', () => {
  for (const codec of CODECS) {
    for (const raw of [randomBytes(100_000), new Uint8Array(3 * MiB)]) {
      assert.ok(Buffer.from(raw).equals(decodeFrame(codec, encode[codec](raw), raw.length)), codec);
    }
  }
});

test('a frame that is part of a larger buffer decodes, and its neighbours stay as they are', () => {
  for (const codec of CODECS) {
    const raw = sample(10_000);
    const frame = encode[codec](raw);
    const around = new Uint8Array(frame.length + 30).fill(0xee);
    around.set(frame, 13);
    const decoded = decodeFrame(codec, around.subarray(13, 13 + frame.length), raw.length);
    assert.ok(Buffer.from(raw).equals(decoded), codec);
    assert.equal(around[12], 0xee);
    assert.equal(around[13 + frame.length], 0xee);
  }
});

test('results are independent: a later call does not change an earlier result', () => {
  for (const codec of CODECS) {
    const first = sample(70_000);
    const kept = decodeFrame(codec, encode[codec](first), first.length);
    decodeFrame(codec, encode[codec](sample(70_000)), 70_000);
    assert.ok(Buffer.from(first).equals(kept), codec);
  }
});

test('another size than the table says is corrupt', () => {
  for (const codec of CODECS) {
    const raw = sample(20_000);
    const frame = encode[codec](raw);
    for (const size of [1, 100, 19_999, 20_001, 20_064, 40_000]) {
      assert.throws(() => decodeFrame(codec, frame, size), isCorrupt, `${codec} ${size}`);
    }
  }
});

test('a frame cut at any place is corrupt', () => {
  for (const codec of CODECS) {
    const frame = encode[codec](sample(3000));
    for (let cut = 0; cut < frame.length; cut += 1 + (cut >> 5)) {
      assert.throws(() => decodeFrame(codec, frame.subarray(0, cut), 3000), isCorrupt, `${codec} ${cut}`);
    }
  }
});

test('gzip: members in a row are one frame, zero padding is none of it', () => {
  const raw = sample(50_000);
  const members = Buffer.concat([
    gzipSync(raw.subarray(0, 7)),
    gzipSync(raw.subarray(7, 30_000)),
    gzipSync(raw.subarray(30_000)),
  ]);
  assert.ok(Buffer.from(raw).equals(decodeFrame('gzip', members, raw.length)));
  assert.ok(Buffer.from(raw).equals(decodeFrame('gzip', Buffer.concat([members, Buffer.alloc(100)]), raw.length)));
  assert.throws(() => decodeFrame('gzip', Buffer.concat([members, Buffer.from('junk')]), raw.length), isCorrupt);
  assert.throws(() => decodeFrame('gzip', deflateSync(raw), raw.length), isCorrupt);
});

test('zstd: a window of 32 MiB is decoded, a larger one refused', () => {
  const raw = sample(10_000);
  const withWindow = (log: number) => zstdCompressSync(raw, { params: { [constants.ZSTD_c_windowLog]: log } });
  assert.ok(Buffer.from(raw).equals(decodeFrame('zstd', withWindow(20), raw.length)));
  // Frame header (RFC 8878, 3.1.1.1): no content size, window descriptor 2^(10 + exponent), one raw block of 4 bytes.
  const frame = (exponent: number) =>
    Uint8Array.of(0x28, 0xb5, 0x2f, 0xfd, 0x00, exponent << 3, (4 << 3) | 1, 0, 0, 1, 2, 3, 4);
  assert.deepEqual([...decodeFrame('zstd', frame(15), 4)], [1, 2, 3, 4]);
  assert.throws(() => decodeFrame('zstd', frame(16), 4), isCorrupt);
  assert.throws(() => decodeFrame('zstd', frame(31), 4), isCorrupt);
});

test('a bomb ends early and takes no more memory than the table says', () => {
  const zeros = Buffer.alloc(256 * MiB);
  for (const codec of ['lz4_block', 'gzip', 'zstd'] as const) {
    const bomb = encode[codec](zeros);
    const before = process.memoryUsage().rss;
    const start = performance.now();
    for (let i = 0; i < 20; i++) assert.throws(() => decodeFrame(codec, bomb, MiB), isCorrupt, codec);
    const grown = process.memoryUsage().rss - before;
    assert.ok(grown < 100 * MiB, `${codec} grew by ${grown}`);
    assert.ok(performance.now() - start < 5000, codec);
  }
  // A size that the block cannot reach is refused before anything is allocated.
  assert.throws(() => decodeFrame('lz4_block', new Uint8Array(10), 0xffffffff), isCorrupt);
});

test('hostile frames: an error or the right number of bytes, nothing else', () => {
  for (const codec of ['lz4_block', 'gzip', 'zstd'] as const) {
    const raw = sample(2000);
    const frame = encode[codec](raw);
    for (let round = 0; round < 5000; round++) {
      const hostile = Uint8Array.from(round % 10 === 0 ? randomBytes(1 + (round % 300)) : frame);
      for (let flip = 0; flip <= round % 4; flip++) {
        hostile[Math.floor(Math.random() * hostile.length)] ^= 1 << (Math.random() * 8);
      }
      try {
        assert.equal(decodeFrame(codec, hostile, raw.length).length, raw.length);
      } catch (error) {
        assert.ok(isCorrupt(error), String(error));
      }
    }
  }
});
