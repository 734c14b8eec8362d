/** Pieces that the upstream builder made: an inflate context, and the beginning of an encrypted blob. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { hash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { inflateFrom } from '../../src/codec/inflate.ts';
import { openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import { FIXTURES, unpackKinds } from '../fixtures.ts';
import { readChunk } from './rafs-reading.ts';

const temporary = mkdtempSync(join(tmpdir(), 'nymph-pieces-'));
after(() => rmSync(temporary, { recursive: true }));
const tar = zstdDecompressSync(readFileSync(join(FIXTURES, 'pieces.tar.zst')));
assert.equal(spawnSync('tar', ['-xf', '-', '-C', temporary], { input: tar }).status, 0);
const piece = (...path: string[]) => readFileSync(join(temporary, ...path));

test('a context of the upstream builder gives the chunks of its image: 7 stray bits and a dictionary', () => {
  const context = JSON.parse(piece('zran', 'context.json').toString()) as {
    bits: number;
    byte: number;
    decodedSize: number;
    chunks: { offset: number; size: number; sha256: string }[];
  };
  const start = {
    bits: context.bits,
    value: context.byte >> (8 - context.bits),
    dictionary: piece('zran', 'dictionary'),
  };
  const decoded = inflateFrom(start, piece('zran', 'input'), context.decodedSize);
  assert.equal(context.chunks.length, 4);
  for (const { offset, size, sha256 } of context.chunks)
    assert.equal(hash('sha256', decoded.subarray(offset, offset + size)), sha256);
});

test('chunks that the upstream builder encrypted are what their digests say: padded and compressed ones', () => {
  const { encryptedBootstrap } = unpackKinds(join(temporary, 'kinds'));
  const { image } = readImage(openBootstrap(readFileSync(encryptedBootstrap)));
  const [blob] = image.blobs;
  const stored = piece('encrypted', 'start');
  const { chunks, frames } = blob;
  let read = 0;
  for (let i = 0; i < chunks.count; i++) {
    const frame = chunks.frame[i];
    if (frames.offset[frame] + frames.size[frame] > stored.length) continue;
    readChunk(blob, i, (_, offset, length) => stored.subarray(offset, offset + length));
    read++;
  }
  assert.equal(read, 4);
});
