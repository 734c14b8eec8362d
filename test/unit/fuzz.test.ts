/** The search itself: it must find what is there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { corrupt } from '../../src/errors.ts';
import { readChunkSize } from '../../src/formats/rafs/super-block.ts';
import { createCoverage } from '../fuzz/coverage.ts';
import { joinParts, splitParts } from '../fuzz/parts.ts';
import { type SearchResult, search } from '../fuzz/search.ts';
import { judge, type Target } from '../fuzz/target.ts';

const start = Buffer.from('some bytes to begin with');

async function find(run: Target['run'], more: Partial<Target> = {}, seed = 7, runs = 100_000): Promise<SearchResult> {
  const target: Target = { name: 'planted', seeds: () => [start], run, text: true, ...more };
  return search(target, [start], { seed, runs, time: 120_000, coverage: createCoverage() });
}

test('a defect behind several steps is found, made small, and found again by the same seed', async () => {
  const planted = (input: Uint8Array) => {
    const text = Buffer.from(input).toString('latin1');
    const steps = ['begin', 'begin wit', 'begin witty', 'begin witty!'].filter((word) => text.includes(word));
    if (steps.length === 4) throw new TypeError('planted');
    return `${steps.length}`;
  };
  const words = ['witty', '!'];
  const [first, second] = [await find(planted, { words }), await find(planted, { words })];
  assert.equal(first.defects.length, 1);
  assert.match(first.defects[0].name, /^TypeError: planted/);
  assert.equal(Buffer.from(first.defects[0].input).toString(), 'begin witty!');
  assert.equal(second.runs, first.runs);
});

test('inputs that reach new blocks of the sources are kept', async () => {
  // Sizes that are right run another branch than those that are not, and neither says so.
  const result = await find(
    (input) => {
      const size = Buffer.concat([input, Buffer.alloc(4)]).readUInt32LE();
      try {
        readChunkSize('s', 0, size);
      } catch {
        // The same way as without.
      }
      return 'one way';
    },
    {},
    7,
    5000,
  );
  assert.equal(result.ways, 1);
  assert.ok(result.corpus.length > 1, `${result.corpus.length} inputs`);
});

test('what a target may not do is a defect', async () => {
  const kinds: [string, Target['run'], Partial<Target>?][] = [
    ['another error', () => JSON.parse('{')],
    ['another code', () => Promise.reject(Object.assign(corrupt('s', 'f', 0, 'w'), { code: 'internal' }))],
    ['corrupt without a place', () => Promise.reject(Object.assign(corrupt('s', 'f', 0, 'w'), { message: 'bad' }))],
    ['memory', () => `${new Uint8Array(80 << 20).length}`, { text: false }],
  ];
  for (const [what, run, more] of kinds) assert.equal((await find(run, more, 1, 10)).defects.length, 1, what);
  assert.equal((await find(() => Promise.reject(corrupt('s', 'f', 0, 'w')), {}, 1, 10)).defects.length, 0);
});

test('errors that differ in numbers and quotations alone are one way', async () => {
  const target = (message: string): Target => ({
    name: 't',
    seeds: () => [],
    run: () => Promise.reject(corrupt('table 7', 'field', 3, message)),
  });
  const ways = await Promise.all(['1 of 2', '3 of "x"'].map((message) => judge(target(message), start)));
  assert.deepEqual(ways, ['corrupt table 0: field', 'corrupt table 0: field']);
});

test('parts of an input are as many as are wanted, whatever it is', () => {
  const parts = [Buffer.from('a'), Buffer.alloc(0), Buffer.from('rest')];
  assert.deepEqual(splitParts(joinParts(...parts), 3), parts);
  for (const input of ['', 'ab', '\xff\xff\xff\xffabc'])
    assert.equal(splitParts(Buffer.from(input, 'latin1'), 3).length, 3);
});
