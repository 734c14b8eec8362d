/** Packed layers as sources of what they unpack to. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { unpackedSource } from '../../src/mount/unpacked-source.ts';
import type { Source } from '../../src/sources/source.ts';
import { madeBytes } from '../registry/layout.ts';

const CONTENT = madeBytes(6_000_000, 5);
const never = new AbortController().signal;

/** A source of bytes in memory that counts what is asked of it. */
function memory(bytes: Uint8Array) {
  const state = { reads: 0 };
  const source: Source = {
    name: 'memory',
    async read(offset, length) {
      state.reads++;
      return (async function* () {
        for (let at = offset; at < offset + length; at += 50_000)
          yield bytes.slice(at, Math.min(at + 50_000, offset + length));
      })();
    },
  };
  return { source, state };
}

async function bytesOf(stream: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const pieces: Uint8Array[] = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces);
}

for (const [codec, stored] of [
  ['gzip', gzipSync(CONTENT)],
  [
    'zstd',
    Buffer.concat([zstdCompressSync(CONTENT.subarray(0, 1_000_000)), zstdCompressSync(CONTENT.subarray(1_000_000))]),
  ],
] as const)
  test(`ranges of what ${codec} holds are right, many at once and in any order`, async () => {
    const { source } = memory(stored);
    const unpacked = unpackedSource(source, stored.length, codec);
    const ranges = [
      [0, 1],
      [5_999_999, 1],
      [3_000_000, 1 << 20],
      [100, 1 << 20],
      [999_999, 2],
      [4_500_000, 700_000],
    ];
    await Promise.all(
      ranges.map(async ([offset, length]) => {
        const got = await bytesOf(await unpacked.read(offset, length, never));
        assert.equal(got.compare(CONTENT, offset, offset + length), 0, `${offset}+${length}`);
      }),
    );
  });

test('a reader that goes on where the last one ended, or behind, begins no new pass', async () => {
  const stored = gzipSync(CONTENT);
  const { source, state } = memory(stored);
  const unpacked = unpackedSource(source, stored.length, 'gzip');
  for (let at = 0; at < 5_000_000; at += 500_000)
    assert.equal((await bytesOf(await unpacked.read(at, 400_000, never))).length, 400_000);
  assert.equal(state.reads, 1);
  await bytesOf(await unpacked.read(10, 10, never));
  assert.equal(state.reads, 2);
});

test('who gives up, before its turn or in it, or never reads, holds nobody up', async () => {
  const stored = gzipSync(CONTENT);
  const unpacked = unpackedSource(memory(stored).source, stored.length, 'gzip');
  const first = new AbortController();
  const held = await unpacked.read(0, 2 << 20, first.signal);
  const second = new AbortController();
  const waiting = unpacked.read(50, 10, second.signal);
  const third = unpacked.read(70, 10, never);
  second.abort();
  await assert.rejects(waiting, { code: 'cancelled' });
  first.abort();
  assert.equal((await bytesOf(await third)).compare(CONTENT, 70, 80), 0);
  assert.ok((await bytesOf(held)).length < 2 << 20);
  await assert.rejects(unpacked.read(0, 1, AbortSignal.abort()), { code: 'cancelled' });
});

test('a layer that is cut short, or another, is an error', async () => {
  const stored = gzipSync(CONTENT);
  const cut = unpackedSource(memory(stored.subarray(0, 100_000)).source, 100_000, 'gzip');
  await assert.rejects(async () => bytesOf(await cut.read(5_000_000, 10, never)), { code: 'corrupt' });
  const short = gzipSync(CONTENT.subarray(0, 1000));
  const less = unpackedSource(memory(short).source, short.length, 'gzip');
  await assert.rejects(async () => bytesOf(await less.read(900, 200, never)), { code: 'corrupt' });
  assert.equal((await bytesOf(await less.read(900, 100, never))).length, 100);
});
