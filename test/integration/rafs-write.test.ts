import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { writeOciLayout } from '../../src/build/oci-layout.ts';
import { type BuildOptions, buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../../src/formats/rafs/write/directory.ts';
import { sharedFixture, unpackKinds } from '../fixtures.ts';
import { flattenBlobs, missingErofs, mountFlat, unmountFlat } from '../flat.ts';
import { checkTree, describe, writeManifest } from '../manifest.ts';
import { randomTree } from '../random-tree.ts';
import { makeBigFile, makeKinds, makeManyFiles } from '../tree.ts';

/** What the running test has mounted. */
const mounts: string[] = [];

function scratch(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-write-'));
  t.after(async () => {
    for (const target of mounts.splice(0).reverse()) await unmountFlat(target);
    rmSync(directory, { recursive: true, force: true });
  });
  return directory;
}

function manifestOf(root: string, path: string): string {
  const lines: string[] = [];
  writeManifest(root, (line) => lines.push(line));
  writeFileSync(path, lines.join(''));
  return path;
}

async function mountBuilt(
  bootstrap: string,
  blobs: string,
  directory: string,
): Promise<{ target: string; devices: string[] }> {
  const { image } = flattenBlobs(bootstrap, blobs, join(directory, 'flat'));
  const devices = image.blobs.map(({ id }) => join(directory, 'flat', id));
  const target = join(directory, 'mnt');
  await mountFlat(bootstrap, devices, target);
  mounts.push(target);
  return { target, devices };
}

const SHAPES: [string, Partial<BuildOptions>][] = [
  ['zstd', {}],
  ['lz4_block, sha256, 64 KiB', { compressor: 'lz4_block', digester: 'sha256', chunkSize: 1 << 16 }],
  ['none, 4 KiB, no ToC', { compressor: 'none', chunkSize: 4096, toc: false }],
  ['batches', { batchSize: 1 << 18, prefetch: 'all' }],
  ['many blobs', { split: (path, size) => `${path.toString('latin1').slice(0, 3)}${size % 3}` }],
];

for (const [name, options] of SHAPES)
  test(`the kernel shows a built image as its source is: ${name}`, async (t) => {
    const reason = missingErofs();
    if (reason) return t.skip(reason);
    const directory = scratch(t);
    const root = join(directory, 'tree');
    mkdirSync(root);
    makeKinds(root);
    makeBigFile(join(root, 'big'), 20_000_001);
    mkdirSync(join(root, 'many'));
    makeManyFiles(join(root, 'many'), { count: 1500, maxSize: 20_000 });
    const manifest = manifestOf(root, join(directory, 'manifest.jsonl'));
    const blobs = join(directory, 'blobs');
    const built = await buildRafsV6(walkDirectory(root), { bootstrap: join(directory, 'boot'), blobs, ...options });
    const { target, devices } = await mountBuilt(built.bootstrap, blobs, directory);
    for (const how of ['order', 'random', 'mmap', 'parallel'] as const)
      assert.deepEqual((await checkTree(target, manifest, { how })).map(describe), [], how);
    const fsck = spawnSync('fsck.erofs', [...devices.map((device) => `--device=${device}`), built.bootstrap]);
    if (fsck.error) t.diagnostic('fsck.erofs is not installed');
    else assert.equal(fsck.status, 0, String(fsck.stderr));
  });

test('the kernel shows trees at random as they were built', async (t) => {
  const reason = missingErofs();
  if (reason) return t.skip(reason);
  const directory = scratch(t);
  for (const [seed, options] of SHAPES.entries()) {
    const { entries, rows } = randomTree(seed + 1, options[1].chunkSize ?? 1 << 20);
    const place = join(directory, String(seed));
    const blobs = join(place, 'blobs');
    const built = await buildRafsV6(entries, { bootstrap: join(place, 'boot'), blobs, ...options[1] });
    const { target } = await mountBuilt(built.bootstrap, blobs, place);
    const shown = new Map<string, unknown>();
    writeManifest(target, (line) => {
      const row = JSON.parse(line);
      shown.set(JSON.stringify(row.path), row);
    });
    assert.deepEqual(shown, rows, `seed ${seed + 1}, ${options[0]}`);
  }
});

test("an image made by upstream's builder, written again, is the same tree", async (t) => {
  const reason = missingErofs();
  if (reason) return t.skip(reason);
  const directory = scratch(t);
  const kinds = unpackKinds(join(directory, 'kinds'));
  const { target } = await mountBuilt(kinds.bootstrap, kinds.blobs, join(directory));
  // The builder's truth, then ours of the same tree.
  assert.deepEqual((await checkTree(target, kinds.manifest)).map(describe), []);
  const again = join(directory, 'again');
  const blobs = join(again, 'blobs');
  const built = await buildRafsV6(walkDirectory(target), { bootstrap: join(again, 'boot'), blobs, batchSize: 1 << 16 });
  const copy = await mountBuilt(built.bootstrap, blobs, again);
  assert.deepEqual((await checkTree(copy.target, kinds.manifest, { how: 'random' })).map(describe), []);
});

test('skopeo accepts the layout', async (t) => {
  if (spawnSync('skopeo', ['--version']).error) return t.skip('skopeo is not installed');
  const directory = scratch(t);
  const root = join(directory, 'tree');
  mkdirSync(root);
  makeManyFiles(root, { count: 50 });
  const layout = join(directory, 'layout');
  const objects = join(layout, 'blobs', 'sha256');
  const built = await buildRafsV6(walkDirectory(root), { bootstrap: join(directory, 'boot'), blobs: objects });
  const { digest } = await writeOciLayout(layout, built, { tag: 'one' });
  const copy = join(directory, 'copy');
  const run = spawnSync('skopeo', ['copy', '--preserve-digests', `oci:${layout}:one`, `oci:${copy}:one`]);
  assert.equal(run.status, 0, String(run.stderr));
  const index = JSON.parse(readFileSync(join(copy, 'index.json'), 'utf8'));
  assert.equal(index.manifests[0].digest, digest);
  for (const { id } of built.blobs) assert.ok(readFileSync(join(copy, 'blobs', 'sha256', id)).length > 0);
});

test("an image of upstream's with uncompressed 64 KiB chunks comes back", async (t) => {
  const reason = missingErofs();
  if (reason) return t.skip(reason);
  const bootstraps = sharedFixture('rafs', 'v6-none-64k');
  if (!bootstraps) return t.skip('the shared fixtures are not here');
  const directory = scratch(t);
  const { target } = await mountBuilt(join(bootstraps, 'bootstrap'), join(bootstraps, 'blobs'), directory);
  assert.deepEqual((await checkTree(target, sharedFixture('manifests', 'kinds.jsonl')!)).map(describe), []);
});
