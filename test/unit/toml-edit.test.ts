import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parse as parseToml } from 'smol-toml';
import { unifiedDiff } from '../../src/containerd/diff.ts';
import { type Change, changeToml, restoreToml } from '../../src/containerd/toml-edit.ts';
import { tomlStatements } from '../../src/containerd/toml-statements.ts';

/** Without the prototypes that the parser's tables lack. */
const parse = (text: string) => JSON.parse(JSON.stringify(parseToml(text)));

const AWKWARD = `# a comment with [brackets] and = signs
version = 2 # trailing
"quoted key" = 'it''s' # not valid alone
`.replace("'it''s'", '"it\\"s"');

const DOCUMENT = `${AWKWARD}
imports = [
  "/etc/a.toml", # one ] here
  '/etc/b.toml',
]
inline = { a = 1, b = { c = "x # y" }, "d.e" = [1, 2] }
text = """
[not.a.table]
key = "no" \\
"""
raw = '''
[[neither]] '''
when = 1979-05-27 07:32:00

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    sandbox = "pause"
    [plugins."io.containerd.grpc.v1.cri".containerd] # the one
      # before
      snapshotter = "overlayfs" # why not
      list = [
        "a",
        "b",
      ]
      no_pivot = false
    [ plugins . 'io.containerd.grpc.v1.cri' . "cni" ]
      bin_dir = "/usr/lib/cni"
[[things]]
name = "first"
[[things]]
name = "second"
[things.sub]
deep.er = true
`;

const CRI = ['plugins', 'io.containerd.grpc.v1.cri', 'containerd'];

test('statements of a document: kinds, paths and places', () => {
  const found = tomlStatements(DOCUMENT).map(({ kind, path }) => `${kind} ${JSON.stringify(path)}`);
  assert.deepEqual(found, [
    'pair ["version"]',
    'pair ["quoted key"]',
    'pair ["imports"]',
    'pair ["inline"]',
    'pair ["text"]',
    'pair ["raw"]',
    'pair ["when"]',
    'table ["plugins"]',
    'table ["plugins","io.containerd.grpc.v1.cri"]',
    'pair ["plugins","io.containerd.grpc.v1.cri","sandbox"]',
    'table ["plugins","io.containerd.grpc.v1.cri","containerd"]',
    'pair ["plugins","io.containerd.grpc.v1.cri","containerd","snapshotter"]',
    'pair ["plugins","io.containerd.grpc.v1.cri","containerd","list"]',
    'pair ["plugins","io.containerd.grpc.v1.cri","containerd","no_pivot"]',
    'table ["plugins","io.containerd.grpc.v1.cri","cni"]',
    'pair ["plugins","io.containerd.grpc.v1.cri","cni","bin_dir"]',
    'array ["things"]',
    'pair ["things","name"]',
    'array ["things"]',
    'pair ["things","name"]',
    'table ["things","sub"]',
    'pair ["things","sub","deep","er"]',
  ]);
  const list = tomlStatements(DOCUMENT).find(({ path }) => path.at(-1) === 'list')!;
  assert.equal(DOCUMENT.slice(list.start, list.end).split('\n').length, 5);
});

const CHANGES: Record<string, Change> = {
  'a value is replaced': { kind: 'set', table: CRI, values: { snapshotter: 'nymph' } },
  'a value of several lines is replaced': { kind: 'set', table: CRI, values: { list: 'none' } },
  'two values, one new': { kind: 'set', table: CRI, values: { no_pivot: true, disable_snapshot_annotations: false } },
  'a key without a table': { kind: 'set', table: [], values: { root: '/r', version: 3 } },
  'a table that is new': { kind: 'set', table: ['proxy_plugins', 'nymph'], values: { type: 'snapshot', 'a b': 'x"y' } },
  'a table above one that is there': { kind: 'set', table: ['things2', 'x'], values: { y: 1 } },
  'a table with another way of writing': {
    kind: 'set',
    table: ['plugins', 'io.containerd.grpc.v1.cri', 'cni'],
    values: { bin_dir: '/x', conf_dir: '/y' },
  },
  'an array that is there': { kind: 'append', array: ['things'], tables: [{ name: 'third' }, { name: 'fourth' }] },
  'an array that is new': {
    kind: 'append',
    array: ['plugins', 'transfer', 'unpack_config'],
    tables: [{ platform: 'linux' }],
  },
};

for (const [name, change] of Object.entries(CHANGES)) {
  test(`changes: ${name}; all else stays, and comes back`, () => {
    const changed = changeToml(DOCUMENT, [change]);
    assert.notEqual(changed, DOCUMENT);
    for (const line of DOCUMENT.split('\n')) assert.ok(changed.includes(line), `lost: ${line}`);
    assert.equal(restoreToml(changed), DOCUMENT);
    const twice = changeToml(restoreToml(changed), [change]);
    assert.equal(twice, changed);
  });
}

test('changes: all of them together, in any order', () => {
  const all = Object.values(CHANGES);
  for (const changes of [all, all.toReversed()]) assert.equal(restoreToml(changeToml(DOCUMENT, changes)), DOCUMENT);
  assert.equal(restoreToml(changeToml('', all)), '');
});

test('changes: an array that is written inline gets more', () => {
  const text = '[t]\n  list = [ { platform = "linux", snapshotter = "overlayfs", types = ["a"], on = true } ] # mine\n';
  const changed = changeToml(text, [
    { kind: 'append', array: ['t', 'list'], tables: [{ platform: 'linux', snapshotter: 'nymph' }] },
  ]);
  assert.deepEqual(parse(changed), {
    t: {
      list: [
        { platform: 'linux', snapshotter: 'overlayfs', types: ['a'], on: true },
        { platform: 'linux', snapshotter: 'nymph' },
      ],
    },
  });
  assert.equal(restoreToml(changed), text);
  assert.match(
    changeToml('[t]\nlist = []\n', [{ kind: 'append', array: ['t', 'list'], tables: [{ a: 1 }] }]),
    /list = \[\{ a = 1 \}\]/,
  );
});

test('changes: a file that ends without a line break', () => {
  for (const text of ['a = 1', '[t]\na = 1', '[t]']) {
    const changed = changeToml(text, [{ kind: 'set', table: ['t'], values: { b: 2 } }]);
    assert.equal(parse(changed).t.b, 2);
    assert.equal(restoreToml(changed).trimEnd(), text);
  }
  const changed = changeToml('[t]\na = 1', [{ kind: 'set', table: ['t'], values: { a: 2 } }]);
  assert.deepEqual(parse(changed), { t: { a: 2 } });
});

test('what cannot be changed without harm is refused', () => {
  const cases: [string, Change][] = [
    ['t = { a = 1 }\n', { kind: 'set', table: ['t'], values: { b: 2 } }],
    ['t.a = 1\n[u]\n', { kind: 'set', table: ['t'], values: { b: 2 } }],
    ['t = 1\n', { kind: 'set', table: ['t', 'u'], values: { b: 2 } }],
    ['[[t]]\na = 1\n', { kind: 'set', table: ['t'], values: { a: 2 } }],
    ['[t.a]\nb = 1\n', { kind: 'set', table: ['t'], values: { a: 2 } }],
    ['[t.list]\nb = 1\n', { kind: 'append', array: ['t', 'list'], tables: [{ a: 1 }] }],
    ['[t]\nlist = 3\n', { kind: 'append', array: ['t', 'list'], tables: [{ a: 1 }] }],
  ];
  for (const [text, change] of cases) assert.throws(() => changeToml(text, [change]), { code: 'unsupported' }, text);
  // The second change meets what the first has made of it.
  const inline: Change = { kind: 'append', array: ['t', 'list'], tables: [{ a: 1 }] };
  const [, , scalar] = cases;
  assert.throws(
    () => changeToml(`${scalar[0]}[u]\nlist = [{ a = 1 }]\n`, [scalar[1], { ...inline, array: ['u', 'list'] }]),
    {
      code: 'unsupported',
    },
  );
  assert.throws(() => restoreToml('# nymph: begin\na = 1\n'), { code: 'config' });
  assert.throws(() => restoreToml('# nymph: end\n'), { code: 'config' });
});

test('a diff says what diff(1) says', () => {
  const before = Array.from({ length: 30 }, (_, i) => `line ${i}`);
  const after = [...before];
  after.splice(25, 1, 'new 25', 'new 26');
  after.splice(3, 0, 'added');
  assert.equal(
    unifiedDiff(`${before.join('\n')}\n`, `${after.join('\n')}\n`, 'f'),
    [
      '--- f',
      '+++ f',
      '@@ -1,6 +1,7 @@',
      ' line 0',
      ' line 1',
      ' line 2',
      '+added',
      ' line 3',
      ' line 4',
      ' line 5',
      '@@ -23,7 +24,8 @@',
      ' line 22',
      ' line 23',
      ' line 24',
      '-line 25',
      '+new 25',
      '+new 26',
      ' line 26',
      ' line 27',
      ' line 28',
      '',
    ].join('\n'),
  );
  assert.equal(unifiedDiff('', 'a\n', 'f'), '--- f\n+++ f\n@@ -0,0 +1 @@\n+a\n');
  assert.equal(unifiedDiff('a', 'a\n', 'f'), '--- f\n+++ f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+a\n');
  assert.equal(unifiedDiff('a\n', 'a\n', 'f'), '');
});
