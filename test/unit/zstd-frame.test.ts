import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdDecompressSync } from 'node:zlib';
import { zstdFrame, zstdFrameByNode } from '../../src/formats/rafs/write/zstd.ts';
import { noiseBytes, textBytes } from '../tree.ts';

test('a frame is what Node makes of the same content, whatever the context coded before', () => {
  const contents = [textBytes(300_000, 1), noiseBytes(70_000, 2), Buffer.alloc(0), Buffer.alloc(5000), textBytes(1, 3)];
  for (const level of [3, 19, 1, -5, 3])
    for (const content of contents) {
      const frame = Buffer.from(zstdFrame(content, level));
      assert.deepEqual(frame, Buffer.from(zstdFrameByNode(content, level)), `level ${level}, ${content.length} bytes`);
      assert.deepEqual(zstdDecompressSync(frame), content);
    }
});

test('content in shared memory, where work threads have it, is coded in place', () => {
  const shared = Buffer.from(new SharedArrayBuffer(8192));
  shared.set(textBytes(8192, 4));
  assert.deepEqual(
    zstdDecompressSync(zstdFrame(shared.subarray(100, 5000), 3)),
    Buffer.from(shared.subarray(100, 5000)),
  );
});
