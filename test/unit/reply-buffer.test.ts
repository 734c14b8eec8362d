import assert from 'node:assert/strict';
import { test } from 'node:test';
import koffi from 'koffi';
import { replyBuffer } from '../../src/fuse/reply-buffer.ts';
import { MAX_READ, OutHeader } from '../../src/fuse/wire.ts';

test('an answer has room for the largest read, and its data begin on a page', () => {
  const buffers = Array.from({ length: 4 }, replyBuffer);
  for (const buffer of buffers) {
    assert.equal(buffer.length, OutHeader.SIZE + MAX_READ);
    assert.equal(koffi.address(buffer.subarray(OutHeader.SIZE)) % 4096n, 0n);
  }
});
