import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmod, copyFile, mkdir, rm, symlink, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { scratch } from './cli-daemon.ts';

const BIN = fileURLToPath(new URL('../../bin/nymph', import.meta.url));

interface Run {
  status: number;
  out: string;
  err: string;
}

function run(file: string, args: string[], options: { cwd?: string; PATH?: string } = {}): Promise<Run> {
  const env = { ...process.env, PATH: options.PATH ?? process.env.PATH };
  return new Promise((resolve) => {
    execFile(file, args, { cwd: options.cwd, env }, (error, out, err) => {
      resolve({ status: error === null ? 0 : Number(error.code), out, err });
    });
  });
}

/** A checkout in small: `bin/nymph`, a source and a build that say which of them ran, and this Node. */
async function checkout(t: TestContext): Promise<string> {
  const home = join(await scratch(t), 'home dir');
  for (const folder of ['bin', 'src/cli', 'dist/cli', 'node_modules/node/bin', 'node_modules/commander'])
    await mkdir(join(home, folder), { recursive: true });
  await copyFile(BIN, join(home, 'bin/nymph'));
  await symlink(process.execPath, join(home, 'node_modules/node/bin/node'));
  await writeFile(join(home, 'src/cli/main.ts'), "console.log('source' as string, ...process.argv.slice(2));");
  await writeFile(join(home, 'dist/cli/main.js'), "console.log('build', ...process.argv.slice(2));");
  return home;
}

/** A folder for PATH with the tools that the script uses, and perhaps a `node` that reports `version`. */
async function path(home: string, version?: string): Promise<string> {
  const folder = join(home, `path-${version}`);
  await mkdir(folder);
  for (const tool of ['sh', 'readlink', 'find', 'head']) {
    const { out } = await run('/bin/sh', ['-c', `command -v ${tool}`]);
    await symlink(out.trim(), join(folder, tool));
  }
  if (version !== undefined) {
    const script = `#!/bin/sh\nif [ "$1" = --version ]; then echo ${version}; else echo "ran by $0"; fi\n`;
    await writeFile(join(folder, 'node'), script, { mode: 0o755 });
    await chmod(join(folder, 'node'), 0o755);
  }
  return folder;
}

test('bin/nymph runs from anywhere, by path and by links to files and folders', async (t) => {
  const directory = await scratch(t);
  await symlink(BIN, join(directory, 'direct'));
  await symlink('direct', join(directory, 'relative'));
  await symlink(join(BIN, '../..'), join(directory, 'house'));
  for (const file of [
    BIN,
    join(directory, 'direct'),
    join(directory, 'relative'),
    join(directory, 'house/bin/nymph'),
  ]) {
    const { status, out, err } = await run(file, ['--version'], { cwd: directory });
    assert.deepEqual({ status, err }, { status: 0, err: '' }, file);
    assert.match(out, /^\d+\.\d+\.\d+\n$/);
  }
  assert.match((await run('relative', ['--version'], { PATH: `${directory}:${process.env.PATH}` })).out, /^\d/);
  assert.match((await run('sh', ['nymph', '--version'], { cwd: join(BIN, '..') })).out, /^\d/);
});

test('the build is taken unless a source is newer', async (t) => {
  const home = await checkout(t);
  const start = async () => (await run(join(home, 'bin/nymph'), ['a b', '*'])).out;
  assert.equal(await start(), 'source a b *\n', 'a build that never ended');
  const stamp = join(home, 'dist/.built');
  await writeFile(stamp, '');
  const later = new Date(Date.now() + 60_000);
  await utimes(stamp, later, later);
  assert.equal(await start(), 'build a b *\n');
  const latest = new Date(Date.now() + 120_000);
  await utimes(join(home, 'src/cli/main.ts'), latest, latest);
  assert.equal(await start(), 'source a b *\n');
});

test('without Node of its own, a system Node that is new enough will do', async (t) => {
  const home = await checkout(t);
  await rm(join(home, 'node_modules/node'), { recursive: true });
  for (const version of ['v22.19.0', 'v24.0.0', 'v100.1.2']) {
    const { out } = await run(join(home, 'bin/nymph'), [], { PATH: await path(home, version) });
    assert.match(out, /^ran by /, version);
  }
  for (const version of ['v22.18.0', 'v20.20.2', 'v8.0.0', 'nonsense']) {
    const { status, err } = await run(join(home, 'bin/nymph'), [], { PATH: await path(home, version) });
    assert.equal(status, 1, version);
    assert.match(err, /^nymph: no Node\.js of at least 22\.19: .*\n {2}Run `make build` in .*home dir, /);
  }
  const none = await run(join(home, 'bin/nymph'), [], { PATH: await path(home) });
  assert.match(none.err, /^nymph: no Node\.js of at least 22\.19: there is none\n/);
});

test('missing dependencies are named', async (t) => {
  const home = await checkout(t);
  await rm(join(home, 'node_modules/commander'), { recursive: true });
  const { status, err } = await run(join(home, 'bin/nymph'), ['ls']);
  assert.equal(status, 1);
  assert.match(err, /^nymph: its dependencies are not installed\n {2}Run `make build`/);
});
