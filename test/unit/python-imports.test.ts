import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { Visit } from '../../src/erofs/walk.ts';
import { readImports } from '../../src/formats/python/imports.ts';
import { importedModules, rootOf } from '../../src/formats/python/modules.ts';
import { collectModules } from '../../src/formats/rafs/modules.ts';
import { compiledModule, type Minor } from '../python.ts';

const IMPORTS = [
  { module: 'sys', names: [] },
  { module: 'os.path', names: [] },
  { module: '', names: ['_parser', '_compiler'] },
];

for (const minor of [8, 11, 13] satisfies Minor[])
  test(`a compiled module of Python 3.${minor} tells what it imports, and not what its functions do`, () => {
    const later = [{ module: 'never' }];
    assert.deepEqual(readImports(compiledModule(minor, IMPORTS, later)), IMPORTS);
    assert.deepEqual(readImports(compiledModule(minor, IMPORTS, later, 300)), IMPORTS, 'wide arguments');
  });

test('source tells the same', () => {
  const source = `"""About modules."""
from __future__ import annotations
import sys, os.path as path  # comment
try:
    from . import (_parser,   # one
        _compiler as c,
    )
except ImportError:
    import fallback
if True:
    from .sub.module import name
def f():
    import never
class C:
    from never import never
import last
`;
  assert.deepEqual(readImports(Buffer.from(source)), [
    { module: '__future__', names: ['annotations'] },
    { module: 'sys', names: [] },
    { module: 'os.path', names: [] },
    { module: '', names: ['_parser', '_compiler'] },
    { module: 'fallback', names: [] },
    { module: 'sub.module', names: ['name'] },
    { module: 'last', names: [] },
  ]);
});

const python = ['python3'].find((program) => spawnSync(program, ['--version']).error === undefined);

test('what the compiler of this machine writes is read as what it compiled', {
  skip: python ? false : 'no python3',
}, () => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-python-'));
  try {
    const source = `import sys, os.path\nfrom . import _parser, _compiler\nX = {1.5: 2j, (1, b'b'): "ü", 10**30: frozenset([1])}\ndef f(a, *, b=1):\n    import never\n    return lambda: a\n`;
    writeFileSync(join(directory, 'm.py'), source);
    const compile = `import py_compile; py_compile.compile('m.py', cfile='m.pyc', doraise=True)`;
    assert.equal(spawnSync(python!, ['-c', compile], { cwd: directory }).status, 0);
    const found = readImports(readFileSync(join(directory, 'm.pyc')));
    // Of an interpreter that is newer than the table nothing is read.
    if (found.length > 0) assert.deepEqual(found, IMPORTS);
    assert.deepEqual(readImports(Buffer.from(source)), IMPORTS);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('bytes that are no module, or a damaged one, are nothing to go by', () => {
  assert.deepEqual(readImports(Buffer.alloc(0)), []);
  assert.deepEqual(readImports(Buffer.from('\x7fELF import')), []);
  const good = compiledModule(11, IMPORTS, IMPORTS, 300);
  for (let length = 0; length < good.length; length += 7) readImports(good.subarray(0, length));
  for (let i = 0; i < 5_000; i++) {
    const damaged = Buffer.from(good);
    for (let n = 0; n < 3; n++) damaged[16 + Math.floor(Math.random() * (damaged.length - 16))] = Math.random() * 256;
    for (const { module, names } of readImports(damaged))
      assert.equal(typeof module + names.length, `string${names.length}`);
  }
  const nested = Buffer.concat([good.subarray(0, 16), Buffer.from(')\x01'.repeat(100_000))]);
  assert.deepEqual(readImports(nested), []);
  const huge = Buffer.concat([good.subarray(0, 16), Buffer.from('(\xff\xff\xff\x7f', 'latin1')]);
  assert.deepEqual(readImports(huge), []);
});

test('a file that is made to be slow to read is read like any other', () => {
  const size = 1 << 20;
  const lines = [
    `from ${'.'.repeat(size)}!import`,
    `from${' '.repeat(size)}!import`,
    `from a${' import('.repeat(size / 8)})`,
    `from a import (${'\n'.repeat(size)}`,
    ...[`from ${'.'.repeat(4_000)}!import`, `from${' '.repeat(4_000)}!import`, `from a${' import('.repeat(500)})`].map(
      (line) => `${line}\n`.repeat(size / 4_000),
    ),
  ];
  for (const line of lines)
    assert.ok(readImports(Buffer.from(`${line}\nimport last\n`)).length < 2_000, line.slice(0, 20));
});

test('names of a megabyte, and thousands of names, are nothing to follow', () => {
  const long = { module: 'm'.repeat(1 << 20), names: ['n'] };
  for (const { module } of readImports(compiledModule(11, [long, long, { module: 'a' }])))
    assert.ok(module.length <= 1_024);
  const many = Array.from({ length: 5 }, () => ({ module: 'a', names: new Array(500).fill('b') }));
  const count = (found: { names: string[] }[]) => found.reduce((sum, { names }) => sum + names.length, 0);
  assert.equal(count(readImports(compiledModule(11, many))), 1_000);
  assert.equal(count(readImports(Buffer.from(`from a import ${'b,'.repeat(500)}\n`.repeat(5)))), 1_000);
});

test('modules in the top directory of an image have a root, though it is a package', () => {
  const modules = collectModules();
  const visit = (path: string, parent: number) => ({ parent, path: () => Buffer.from(path) }) as Visit;
  for (const [row, name] of ['__init__.py', 'm.py', 'n.py'].entries())
    modules.file(name, { blob: 0, offset: 4096 * row, length: 10 }, visit(`/${name}`, 0));
  const index = modules.index()!;
  assert.equal(rootOf(index, 1), '');
  assert.deepEqual([...importedModules(index, 1, [{ module: 'n', names: [] }], [])], [2]);
});
