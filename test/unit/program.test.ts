/** What a command line names in an image, and what Python's standard library imports. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { inspect } from 'node:util';
import type { Connection } from '../../src/containerd/connection.ts';
import { programOn } from '../../src/containerd/program.ts';
import { resolvePath } from '../../src/erofs/resolve.ts';
import { type Erofs, openErofs } from '../../src/erofs/super-block.ts';
import { NymphError } from '../../src/errors.ts';
import { standardImports } from '../../src/formats/python/standard-library.ts';
import { dataRange } from '../../src/formats/rafs/data-range.ts';
import { run } from '../../src/mount/program-job.ts';
import { makeImage } from '../made-image.ts';

describe('in a tree', () => {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-'));
  const bootstrap = join(directory, 'app-bootstrap');
  let erofs: Erofs;
  before(async () => {
    await makeImage(directory, 'app', (tree) => {
      for (const name of ['usr/bin', 'usr/sbin', 'app']) mkdirSync(join(tree, name), { recursive: true });
      symlinkSync('usr/bin', join(tree, 'bin'));
      writeFileSync(join(tree, 'usr/bin/python3.11'), 'interpreter', { mode: 0o755 });
      writeFileSync(join(tree, 'usr/bin/notes'), 'notes');
      writeFileSync(join(tree, 'usr/sbin/notes'), 'a program', { mode: 0o755 });
      symlinkSync('python3.11', join(tree, 'usr/bin/python3'));
      symlinkSync('/bin/../bin/./python3', join(tree, 'usr/bin/python'));
      symlinkSync('../../../../../bin/python', join(tree, 'app/interpreter'));
      writeFileSync(join(tree, 'app/main.py'), 'import re');
      symlinkSync('loop', join(tree, 'app/loop'));
      symlinkSync('nothing', join(tree, 'app/dangling'));
      symlinkSync(`${'./'.repeat(2_040)}wide`, join(tree, 'app/wide'));
    });
    erofs = openErofs(readFileSync(bootstrap));
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  const sizeOf = (path: string) => resolvePath(erofs, path)?.size;

  test('a path is followed through links, and no further than it goes', () => {
    for (const path of ['/usr/bin/python3.11', '/bin/python', '/app/interpreter', '/../app//./interpreter'])
      assert.equal(sizeOf(path), 'interpreter'.length, path);
    for (const path of ['/app/loop', '/app/dangling', '/app/wide', '/app/main.py/x', '/absent', '/bin/python/..'])
      assert.equal(resolvePath(erofs, path), undefined, path);
    assert.equal(resolvePath(erofs, '/')?.mode, resolvePath(erofs, '/app/../..')?.mode);
  });

  test('a command line names its program, and files that it is given', () => {
    const found = (args: string[], path = ['/usr/local/bin', '/bin', '/usr/sbin'], cwd = '/app') =>
      run({ bootstrap, program: { args, path, cwd } }).output.map(({ offset }) => offset);
    const at = (path: string) => dataRange(erofs, resolvePath(erofs, path)!)!.offset;
    const [python, main] = [at('/bin/python'), at('/app/main.py')];
    assert.deepEqual(found(['python3', '-S', 'main.py']), [python, main]);
    assert.deepEqual(found(['/app/interpreter', '/bin/python3', '/app/main.py']), [python, main], 'each once');
    assert.deepEqual(found(['./interpreter']), [python]);
    assert.deepEqual(found(['notes']), [at('/usr/sbin/notes')], 'what cannot be run is passed over');
    assert.deepEqual(found(['python3'], []), [], 'nowhere to look');
    assert.deepEqual(found(['absent', '', '/', '/app', 'loop', '-c', 'import re']), []);
  });
});

test('the table of the standard library is what Python does', (t) => {
  const script = fileURLToPath(new URL('../standard-library.py', import.meta.url));
  const python = ['python3.11', 'python3'].find(
    (name) => spawnSync(name, ['-c', 'import sys; sys.exit(sys.version_info[:2] != (3, 11))']).status === 0,
  );
  if (python === undefined) return t.skip('no Python 3.11 here');
  const modules = ['argparse', 'asyncio', 'dataclasses', 'json', 'logging', 're', 'subprocess', 'typing', 'zipfile'];
  const { stdout, status } = spawnSync(python, ['-S', script, ...modules], { encoding: 'utf8' });
  assert.equal(status, 0);
  const seen = new Map(
    stdout
      .trim()
      .split('\n')
      .map((line) => [line.split(': ')[0], line.split(': ')[1].split(' ')]),
  );
  const known = standardImports();
  for (const module of modules) assert.deepEqual(closure(known, module), closure(seen, module), module);
});

test('what a container runs is asked for until containerd knows it', async (t) => {
  t.mock.timers.enable({ apis: ['setTimeout'] });
  const spec = (value: object | string) => ({
    spec: { value: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)) },
    snapshotKey: 'c',
  });
  const { signal } = new AbortController();
  const ask = async (...containers: (object | undefined)[]) => {
    const containerd = {
      async call(service: string, method: string, request: object) {
        assert.deepEqual([service, method, request], ['containers', 'Get', { id: 'c' }]);
        const container = containers.shift();
        if (container === undefined) throw new NymphError('daemon', 'no such container', { cause: { code: 5 } });
        return { container };
      },
    } as unknown as Connection;
    const asked = programOn(containerd, 'default', 'c', signal).finally(() => (ended = true));
    let ended = false;
    asked.catch(() => {});
    while (!ended) {
      await new Promise(setImmediate);
      t.mock.timers.tick(1_000);
    }
    return asked;
  };
  const program = { args: ['python3'], env: ['A=1', 'PATH=/bin::/usr/bin'], cwd: '/app' };
  const found = { args: ['python3'], path: ['/bin', '/usr/bin'], cwd: '/app' };
  assert.deepEqual(await ask(undefined, undefined, spec({ process: program })), found);
  assert.deepEqual(await ask(spec({ process: { args: ['a'] } })), { args: ['a'], path: [], cwd: '/' });
  for (const odd of [{}, { process: null }, { process: { args: 'a' } }, { process: { args: [1] } }, 'null', '7'])
    assert.equal(await ask(spec(odd)), undefined, JSON.stringify(odd));
  assert.equal(await ask({ ...spec({ process: program }), snapshotKey: 'other' }), undefined);
  assert.equal(await ask(), undefined, 'none comes');
  await assert.rejects(ask(spec('{"process":{"env":["KEY=secret')), (error: NymphError) => {
    assert.equal(error.code, 'corrupt');
    assert.doesNotMatch(inspect(error), /secret/);
    return true;
  });
});

function closure(imports: ReadonlyMap<string, readonly string[]>, module: string): string[] {
  const all = new Set([module]);
  for (const name of all) for (const imported of imports.get(name) ?? []) all.add(imported);
  return [...all].sort();
}
