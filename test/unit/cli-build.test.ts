import assert from 'node:assert/strict';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { tarHeader, tarMember } from '../tar.ts';
import { noiseBytes, textBytes } from '../tree.ts';
import { nymph, scratch } from './cli-daemon.ts';

/** A directory with a tree in `tree`. */
async function withTree(t: TestContext): Promise<string> {
  const directory = await scratch(t);
  const root = join(directory, 'tree');
  await mkdir(join(root, 'bin'), { recursive: true });
  await writeFile(join(root, 'bin/app'), textBytes(300_000, 1));
  await writeFile(join(root, 'bin/copy'), textBytes(300_000, 1));
  await writeFile(join(root, 'noise'), noiseBytes(70_000, 2));
  await symlink('bin/app', join(root, 'app'));
  return directory;
}

test('build makes a folder from a directory, and tells what it made', async (t) => {
  const cwd = await withTree(t);
  const json = await nymph(['build', 'tree', '-o', 'out', '--json'], { cwd });
  assert.deepEqual({ status: json.status, err: json.err }, { status: 0, err: '' });
  const report = JSON.parse(json.out);
  const [blob] = report.blobs;
  assert.deepEqual(await readdir(join(cwd, 'out/blobs')), [blob.id]);
  assert.equal((await readFile(join(cwd, 'out/blobs', blob.id))).length, blob.size);
  assert.deepEqual([report.names, report.content, report.stored], [6, 670_000, blob.size]);
  assert.deepEqual(report.duplicates, { chunks: 1, bytes: 300_000 });
  const inspect = JSON.parse((await nymph(['inspect', 'rafs:out', '--json'], { cwd })).out);
  assert.equal(inspect.totals.inodes, 6);

  const text = await nymph(['build', 'tree', '-o', 'out', '--compressor', 'lz4_block', '--chunk-size', '64KiB'], {
    cwd,
  });
  assert.match(
    text.out,
    /^built out in [^\n]+\n {2}6 names, 654 KiB in files, [^\n]+ stored \(\d+%\)\n {2}293 KiB were/,
  );
  const { bootstrap } = JSON.parse((await nymph(['inspect', 'rafs:out', '--json'], { cwd })).out);
  assert.deepEqual([bootstrap.compressor, bootstrap.chunkSize], ['lz4_block', 65536]);
});

test('build makes an OCI layout from a tar on standard input, with a prefetch list and a time', async (t) => {
  const cwd = await scratch(t);
  const tar = gzipSync(
    Buffer.concat([
      tarMember('etc/passwd', 'root:x:0:0'),
      tarMember('usr/bin/app', noiseBytes(5000, 1), { mode: 0o755 }),
      tarHeader({ name: 'null', type: '3', size: 0 }),
      Buffer.alloc(1024),
    ]),
  );
  await writeFile(join(cwd, 'list'), '/usr/bin/app\netc/passwd\n');
  const args = ['build', '-', '-o', 'oci:images:app', '--prefetch', 'list', '--json', '--platform', 'linux/arm64'];
  const env = { SOURCE_DATE_EPOCH: '1700000000' };
  const built = await nymph(args, { cwd, input: tar, env });
  assert.deepEqual({ status: built.status, err: built.err }, { status: 0, err: '' });
  const again = await nymph(args, { cwd, input: tar, env });
  const { digest } = JSON.parse(built.out);
  assert.equal(JSON.parse(again.out).digest, digest);
  const { out } = await nymph(['inspect', 'oci:images:app', '--json'], { cwd });
  const inspect = JSON.parse(out);
  assert.equal(inspect.digest, digest);
  assert.deepEqual(inspect.prefetch, { ranges: 1, size: 8202 });
  assert.equal(inspect.bootstrap.buildTime, 1700000000);
  assert.deepEqual((await readdir(join(cwd, 'images'))).sort(), ['blobs', 'index.json', 'oci-layout']);
  const objects = join(cwd, 'images/blobs/sha256');
  const manifest = JSON.parse(await readFile(join(objects, digest.slice(7)), 'utf8'));
  const config = JSON.parse(await readFile(join(objects, manifest.config.digest.slice(7)), 'utf8'));
  assert.deepEqual([config.architecture, config.created], ['arm64', '2023-11-14T22:13:20.000Z']);
});

test('what cannot be built is refused in a sentence, and leaves nothing behind', async (t) => {
  const cwd = await withTree(t);
  await writeFile(join(cwd, 'list'), '/no/such/file\n');
  await writeFile(join(cwd, 'bad.tar'), noiseBytes(4096, 1));
  const cases: [string[], number, RegExp][] = [
    [['build', 'none', '-o', 'out'], 3, /^nymph: cannot read none: ENOENT/],
    [['build', 'bad.tar', '-o', 'out'], 5, /^nymph: tar header: checksum at byte 148/],
    [['build', 'tree', '-o', 'tree/out'], 2, /is inside of tree/],
    [['build', 'tree', '-o', 'out', '--prefetch', 'list'], 2, /cannot prefetch \/no\/such\/file/],
    [['build', 'tree', '-o', 'out', '--chunk-size', '5000'], 2, /chunk size of 5000/],
    [['build', 'tree', '-o', 'out', '--level', '99'], 2, /a number from 1 to 19/],
    [['build', 'tree', '-o', 'out', '--platform', 'linux/arm64'], 2, /cannot be the output with --platform/],
    [['build', '-', '-o', 'out', '--prefetch', '-'], 2, /cannot be both/],
    [['build', 'tree'], 2, /required option/],
  ];
  for (const [args, status, message] of cases) {
    const outcome = await nymph(args, { cwd });
    assert.equal(outcome.status, status, `${args.join(' ')}: ${outcome.err}`);
    assert.match(outcome.err, message);
  }
  const left = (await readdir(join(cwd, 'out'), { recursive: true }).catch(() => [])).filter(
    (name) => name !== 'blobs',
  );
  assert.deepEqual(left, []);
});
