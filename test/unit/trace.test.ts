import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatTrace, parseTrace } from '../../src/image/trace.ts';

const SIZES = [1 << 20, 8192];

test('a trace comes back as it was, in blocks', () => {
  const trace = [
    { blob: 1, offset: 4096, length: 4096 },
    { blob: 0, offset: 0, length: 12288 },
  ];
  assert.equal(formatTrace(trace), '1:1+1 0:0+3');
  assert.deepEqual(parseTrace(formatTrace(trace), SIZES), trace);
  assert.equal(formatTrace([{ blob: 0, offset: 5000, length: 100 }]), '0:1+1', 'blocks are whole');
  assert.deepEqual(parseTrace(formatTrace([]), SIZES), []);
});

test('a trace of somebody else names nothing outside the image, and has an end', () => {
  assert.deepEqual(parseTrace('7:0+1 0:255+9 1:2+1 0:9999999999+1', SIZES), [
    { blob: 0, offset: 255 * 4096, length: 4096 },
  ]);
  for (const text of ['', 'x', '0:0', '0:0+1 <b>', '-1:0+1', '0:1e9+1', '0:0+99999999', ' 0:0+1'])
    assert.deepEqual(parseTrace(text, SIZES), [], text);
  const much = parseTrace('0:0+9999999 '.repeat(100).trim(), [2 ** 40]);
  assert.ok(much.reduce((sum, { length }) => sum + length, 0) <= 1 << 30);
  assert.equal(parseTrace('0:0+1 '.repeat(100_000).trim(), SIZES).length, 65_536);
});
