import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFilters } from '../../src/snapshotter/filters.ts';
import { changedLabels } from '../../src/snapshotter/labels.ts';
import type { Info } from '../../src/snapshotter/snapshotter.ts';

const info = (labels: Record<string, string>): Info => ({
  ...{ name: 'default/1/sha256:aa', parent: '', kind: 'active', created: 1n, updated: 1n },
  labels,
});

test('expressions in filters are those of Go', () => {
  const cases: [string, boolean][] = [
    ['labels.a~=/^val/', true],
    ['labels.a~=/^VAL/', false],
    ['labels.a~=/(?i)^VAL/', true],
    ['labels.a~=/(?s-i)^v.l\\\\z/', false],
    ['labels.a~=/[[:alpha:]]+\\\\pL/', true],
    ['labels.absent~=/^$/', true],
  ];
  for (const [text, expected] of cases) assert.equal(parseFilters([text])(info({ a: 'value' })), expected, text);
  for (const text of ['labels.a~=/(/', 'labels.a~=/(?=a)/', 'labels.a~=/(a)\\\\1/'])
    assert.throws(() => parseFilters([text]), { code: 'usage' }, text);
});

test('an expression that JavaScript would try for ever is answered', () => {
  assert.equal(parseFilters(['labels.a~=/(a+)+$/'])(info({ a: `${'a'.repeat(4000)}!` })), false);
});

test('labels named as what every object has are labels like others', () => {
  assert.deepEqual(changedLabels({ a: 'b' }, {}, ['labels.constructor', 'labels.toString'], false), { a: 'b' });
  assert.deepEqual(changedLabels({}, { constructor: 'x' }, ['labels.constructor'], false), { constructor: 'x' });
});
