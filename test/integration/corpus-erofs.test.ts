/**
 * What fuzzing takes for the kernel's view of a bootstrap (test/fuzz/kernel-view.ts) is what the kernel has: every odd
 * bootstrap that is accepted is mounted and looked through.
 */
import assert from 'node:assert/strict';
import {
  closeSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readlinkSync,
  readSync,
  rmSync,
  type Stats,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { crc32 } from 'node:zlib';
import { NymphError } from '../../src/errors.ts';
import { openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import type { Blob } from '../../src/image/image.ts';
import { mountErofs, unmount } from '../../src/mount/erofs.ts';
import { missingErofs } from '../flat.ts';
import { keptInputs, loadTarget } from '../fuzz/corpus.ts';
import { kernelView, type SeenFile } from '../fuzz/kernel-view.ts';
import { createRandom } from '../fuzz/random.ts';
import { randomBootstrap, randomBootstrapV5 } from '../fuzz/random-images.ts';
import { xattrs } from '../manifest/xattr.ts';

const GENERATED = 60;
const BLOCK = 4096;
/** Content is written into blobs up to this size. */
const MOST_CONTENT = 1 << 20;

interface Accepted {
  bytes: Uint8Array;
  blobs: readonly Blob[];
}

/** @returns undefined for what is refused, as most of what fuzzing keeps */
function accept(input: Uint8Array): Accepted | undefined {
  try {
    const bootstrap = openBootstrap(Uint8Array.from(input));
    if (bootstrap.blobs.some((blob) => blob.needsChunkInfo)) return undefined;
    return { bytes: bootstrap.erofs.bytes, blobs: readImage(bootstrap).image.blobs };
  } catch (error) {
    if (error instanceof NymphError) return undefined;
    throw error;
  }
}

/** Which blob and block a byte is from can be told. */
function writeBlob(path: string, number: number, size: number): void {
  const fd = openSync(path, 'w');
  ftruncateSync(fd, size);
  if (size <= MOST_CONTENT)
    for (let at = 0; at < size; at += BLOCK) writeSync(fd, Buffer.alloc(BLOCK, contentOf(number, at)), 0, BLOCK, at);
  closeSync(fd);
}

const contentOf = (blob: number, at: number) => 1 + ((blob * 59 + Math.floor(at / BLOCK)) % 255);

function compare(root: string, file: SeenFile, blobs: readonly Blob[]): void {
  const path = Buffer.from(root + file.path, 'latin1');
  const stats: Stats = lstatSync(path);
  const what = `${JSON.stringify(file.path)} ${stats.mode.toString(8)}`;
  for (const field of ['mode', 'uid', 'gid', 'nlink'] as const)
    assert.equal(stats[field], file[field], `${field} of ${what}`);
  if (!stats.isDirectory()) assert.equal(stats.size, file.size, `size of ${what}`);
  assert.equal(Math.floor(stats.mtimeMs / 1000), file.mtime, `mtime of ${what}`);
  compareXattrs(path, file, what);
  if (stats.isSymbolicLink()) assert.equal(crc32(readlinkSync(path, 'buffer')), file.content, `target of ${what}`);
  if (stats.isDirectory()) {
    const names = readdirSync(path, { encoding: 'buffer' });
    for (const name of names) assert.ok(name.length > 0 && !name.includes('/'), what);
  }
  if (!stats.isFile() || file.size > MOST_CONTENT) return;
  const content = Buffer.alloc(file.size);
  const fd = openSync(path, 'r');
  let done = 0;
  for (let read = 1; read > 0; done += read) read = readSync(fd, content, done, file.size - done, done);
  closeSync(fd);
  assert.equal(done, file.size, what);
  if (file.content !== undefined) assert.equal(crc32(content), file.content, what);
  let at = 0;
  for (const { blob, offset, length } of file.extents) {
    for (let i = 0; i < length; i += 512) {
      const expected = blob < 0 || blobs[blob].size > MOST_CONTENT ? 0 : contentOf(blob, offset + i);
      assert.equal(content[at + i], expected, `byte ${at + i} of ${what}`);
    }
    at += length;
  }
}

/** Only of attributes whose values the kernel passes on as they are. */
function compareXattrs(path: Buffer, file: SeenFile, what: string): void {
  const names = file.xattrs.map(([name]) => name);
  const passes = /^(8|4)$/.test(String(file.mode >> 12)) ? /^(user|trusted)\../ : /^trusted\../;
  if (!names.every((name) => passes.test(name))) return;
  const found = xattrs(path);
  for (const [name, checksum] of file.xattrs) {
    if (names.indexOf(name) !== names.lastIndexOf(name)) continue;
    const value = found[Buffer.from(name, 'latin1').toString()];
    assert.equal(value === undefined ? undefined : crc32(Buffer.from(value, 'base64')), checksum, `${name} of ${what}`);
  }
}

for (const name of ['bootstrap', 'bootstrap-v5']) {
  test(`${name}: the kernel sees what our reading of its sources says`, async (t) => {
    const why = missingErofs();
    if (why) return t.skip(why);
    const directory = mkdtempSync(join(tmpdir(), 'nymph-corpus-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const target = join(directory, 'mnt');
    mkdirSync(target);
    const random = createRandom(1);
    const make = name === 'bootstrap' ? randomBootstrap : randomBootstrapV5;
    const inputs = [
      ...(await (await loadTarget(name)).seeds()),
      ...keptInputs(name).map(({ bytes }) => bytes),
      ...Array.from({ length: GENERATED }, () => make(random)),
    ];
    let mounted = 0;
    for (const input of inputs) {
      const accepted = accept(input);
      if (accepted === undefined) continue;
      const { bytes, blobs } = accepted;
      writeFileSync(join(directory, 'bootstrap'), bytes);
      const devices = blobs.map((blob, i) => {
        const path = join(directory, `blob-${i}`);
        writeBlob(path, i, blob.size);
        return path;
      });
      await mountErofs({ bootstrap: join(directory, 'bootstrap'), devices, directory: target });
      try {
        for (const file of kernelView(bytes)) compare(target, file, blobs);
      } finally {
        await unmount(target);
      }
      mounted++;
    }
    t.diagnostic(`${mounted} of ${inputs.length} inputs mounted`);
    assert.ok(mounted > GENERATED / 4, `${mounted} mounted`);
  });
}
