import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseFilters } from '../../src/snapshotter/filters.ts';
import type { Info } from '../../src/snapshotter/snapshotter.ts';

const info = (more: Partial<Info>): Info => ({
  name: 'default/1/a',
  parent: '',
  kind: 'active',
  created: 1n,
  updated: 1n,
  labels: {},
  ...more,
});

const INFOS = {
  base: info({ name: 'base', kind: 'committed', labels: { 'containerd.io/snapshot.ref': 'sha256:1', foo: 'bar' } }),
  top: info({ name: 'default/2/a b', parent: 'base', kind: 'committed', labels: { 'a.b/c': 'x,y', empty: '' } }),
  view: info({ name: 'v "q"', parent: 'default/2/a b', kind: 'view', labels: { foo: 'baz', 日本: '日' } }),
  active: info({ name: 'x/y', labels: { path: '/a/b|c' } }),
};

/** What each filter finds, among `INFOS`. */
const CASES: [filters: string[], found: (keyof typeof INFOS)[]][] = [
  [[], ['base', 'top', 'view', 'active']],
  [[''], ['base', 'top', 'view', 'active']],
  [
    ['name==nothing', ''],
    ['base', 'top', 'view', 'active'],
  ],
  [['kind==committed'], ['base', 'top']],
  [['kind==view'], ['view']],
  [['kind==active'], ['active']],
  [['kind!=committed'], ['view', 'active']],
  [['kind==COMMITTED'], []],
  [['name==base'], ['base']],
  [['name=="base"'], ['base']],
  [['name=="default/2/a b"'], ['top']],
  [['name=="v \\"q\\""'], ['view']],
  [['name==x/y'], ['active']],
  [['name~=^default/'], ['top']],
  [['name~="/"'], ['top', 'active']],
  [['name~=/^default.2/'], ['top']],
  [['name~=/a\\/b/', 'name~=|x/y|'], ['active']],
  [['name~="(?i)BASE"'], ['base']],
  [['parent==base'], ['top']],
  [['parent==""'], ['base', 'active']],
  [['parent!=""'], ['top', 'view']],
  [['parent'], ['base', 'top', 'view', 'active']],
  [['labels.foo'], ['base', 'view']],
  [['labels.foo==bar'], ['base']],
  [['labels.foo!=bar'], ['top', 'view', 'active']],
  [['labels.empty'], ['top']],
  [['labels.empty==""'], ['top']],
  [['labels.foo~=ba'], ['base', 'view']],
  [['labels.none~=^$'], ['base', 'top', 'view', 'active']],
  [['labels."a.b/c"=="x,y"'], ['top']],
  [['labels.a."b/c"'], ['top']],
  [['labels."日本"==日'], ['view']],
  [['labels."日本"=="\\u65e5"', 'labels."\\xe6\\x97\\xa5\\xe6\\x9c\\xac"=="\\U000065e5"'], ['view']],
  [['labels.path=="/a/b|c"'], ['active']],
  [['labels."containerd.io/snapshot.ref"==sha256:1,parent==""'], ['base']],
  [['labels."containerd.io/snapshot.ref"==sha256:1,parent=="other"'], []],
  [['kind==committed,labels.foo'], ['base']],
  [['kind==committed, labels.foo == bar'], ['base']],
  [
    ['kind==view', 'name==base'],
    ['base', 'view'],
  ],
  [['size==1'], []],
  [['size!=1'], ['base', 'top', 'view', 'active']],
  [['name=="\\142ase"'], ['base']],
  [['labels.constructor'], []],
  [['labels.__proto__'], []],
  [['name==a=b"c'], []],
];

test('filters find what containerd’s own would', () => {
  for (const [filters, found] of CASES) {
    const matches = parseFilters(filters);
    const names = Object.entries(INFOS).flatMap(([name, value]) => (matches(value) ? [name] : []));
    assert.deepEqual(names, found, filters.join(' or '));
  }
});

test('what cannot be read is refused, with its place', () => {
  for (const filter of [
    ',',
    'name==',
    'name= =x',
    'name=x',
    'name===x',
    'name<x',
    '==x',
    'name==x,',
    'name==x y',
    'name==x ',
    'name ',
    'name.',
    'name..a==x',
    'na-me==x',
    'name=="x',
    'name=="x\ny"',
    'name=="\\d"',
    'name=="\\x4"',
    'name=="\\777"',
    'name=="\\U00110000"',
    'name=="x"y',
    'name==/x/',
    'name~=|x',
    'name~=(',
    'labels."a==x',
    '"',
    '\\',
    '\u0000',
  ])
    assert.throws(
      () => parseFilters(['name==good', filter]),
      (error: Error & { code: string }) =>
        error.code === 'usage' && /cannot be read: .* at character \d+/s.test(error.message),
      JSON.stringify(filter),
    );
});
