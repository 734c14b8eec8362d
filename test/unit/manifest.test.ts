import assert from 'node:assert/strict';
import { chmodSync, linkSync, lutimesSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { sharedFixture } from '../fixtures.ts';
import { readManifest } from '../manifest/rows.ts';
import { setXattr } from '../manifest/xattr.ts';
import { checkTree, compareWithManifest, type Difference, writeManifest } from '../manifest.ts';
import { makeBigFile, makeKinds } from '../tree.ts';

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-manifest-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

function manifestOf(root: string, path: string): string {
  let text = '';
  writeManifest(root, (line) => {
    text += line;
  });
  writeFileSync(path, text);
  return path;
}

test('a tree equals its own manifest, whichever way it is read', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  makeKinds(root);
  makeBigFile(join(root, 'big'), 5_000_003);
  const manifest = manifestOf(root, join(directory, 'm.jsonl'));
  assert.ok(readManifest(manifest).length > 650);
  for (const how of ['order', 'random', 'mmap', 'parallel'] as const)
    assert.deepEqual(await compareWithManifest(root, manifest, { how }), [], how);
});

test('each kind of change is found', async (t) => {
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  const at = (name: string): string => join(root, name);
  for (const name of ['content', 'longer', 'mode', 'time', 'gone', 'xattr', 'linked', 'known'])
    writeFileSync(at(name), `content of ${name}`);
  symlinkSync('here', at('link'));
  const fix = (name: string): void => lutimesSync(at(name), 1000, 1000);
  for (const name of ['content', 'longer', 'mode', 'time', 'gone', 'xattr', 'linked', 'known', 'link']) fix(name);
  const manifest = manifestOf(root, join(directory, 'm.jsonl'));

  writeFileSync(at('content'), 'Content of content');
  writeFileSync(at('longer'), 'content of longer.');
  chmodSync(at('mode'), 0o600);
  lutimesSync(at('time'), 1001, 1001);
  rmSync(at('gone'));
  writeFileSync(at('new'), '');
  setXattr(Buffer.from(at('xattr')), 'user.a', Buffer.from('1'));
  linkSync(at('linked'), at('linked-too'));
  chmodSync(at('known'), 0o600);
  rmSync(at('link'));
  symlinkSync('there', at('link'));
  for (const name of ['content', 'longer', 'link']) fix(name);

  const options = { exceptions: [{ path: '/known', field: 'mode' }] };
  for (const how of ['order', 'random', 'mmap'] as const) {
    const found = await compareWithManifest(root, manifest, { ...options, how });
    assert.deepEqual(found.map(({ path, field }) => `${path} ${field}`).sort(), [
      '/content content',
      '/gone presence',
      '/link target',
      '/linked nlink',
      '/linked-too presence',
      '/longer content',
      '/longer size',
      '/mode mode',
      '/new presence',
      '/time mtime',
      '/xattr xattrs',
    ]);
  }
  const parallel = await checkTree(root, manifest, { ...options, how: 'parallel', readers: 3 });
  const wrongContent = (all: Difference[]): number => all.filter((d) => d.path === '/content').length;
  assert.equal(wrongContent(parallel), 3, 'each reader sees the wrong content');
});

test('a manifest by the reference tool is understood', async (t) => {
  const manifest = sharedFixture('manifests', 'kinds.jsonl');
  if (!manifest) return t.skip('the shared fixtures are not here');
  const rows = readManifest(manifest);
  assert.equal(rows.length, 3124);
  assert.ok(rows.some((row) => typeof row.path !== 'string'));
});

test('an empty manifest and a missing tree are errors, not agreement', async (t) => {
  const directory = scratch(t);
  const manifest = join(directory, 'm.jsonl');
  writeFileSync(manifest, '');
  await assert.rejects(compareWithManifest(directory, manifest), /is empty/);
  writeFileSync(manifest, '{"path":"/","mode":"0o40755","uid":0,"gid":0}\n');
  await assert.rejects(checkTree(join(directory, 'absent'), manifest), /ENOENT/);
});
