import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { writeOciLayout } from '../../src/build/oci-layout.ts';
import { NymphError } from '../../src/errors.ts';
import { openBootstrap } from '../../src/formats/rafs/bootstrap.ts';
import { type BuildOptions, buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { contentOf, type SourceEntry } from '../../src/formats/rafs/write/source.ts';
import { createImageOpener, type ImageOpener } from '../../src/mount/open.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { randomSeries } from '../manifest/read.ts';
import type { Row } from '../manifest/rows.ts';
import { noiseBytes, textBytes } from '../tree.ts';
import { rowsOf } from './rafs-reading.ts';

/** Every how many bytes one is changed; 1 takes minutes. */
const STEP = Number(process.env.NYMPH_STEP ?? 15);

const FILE = 0o100644;
const ENTRIES: SourceEntry[] = [
  { path: '/text', mode: FILE, ...contentOf(textBytes(5000, 1)) },
  { path: '/noise', mode: FILE, ...contentOf(noiseBytes(700, 2)) },
  { path: '/same', mode: FILE, ...contentOf(textBytes(5000, 1)) },
  { path: '/link', mode: 0o120777, target: 'text' },
  { path: '/d/attributes', mode: FILE, xattrs: [{ name: 'user.a', value: Buffer.from('b') }] },
  { path: '/d/small', mode: FILE, mtime: 1_700_000_000, uid: 7, ...contentOf(Buffer.from('small')) },
];

/** All that an image shows: names, attributes, and content through its tables, every chunk verified. */
async function readAll(opener: ImageOpener, layout: string): Promise<Map<string, Row>> {
  const signal = AbortSignal.timeout(60_000);
  const found = await opener.resolve(`oci:${layout}:app`, 'linux/amd64', () => {}, signal);
  const opened = await found.open(() => {}, signal);
  const objects = new Map<string, Buffer>();
  for (const blob of opened.image.blobs) {
    const size = statSync(join(layout, 'blobs/sha256', blob.digest.slice(7))).size;
    const pieces: Uint8Array[] = [];
    for await (const piece of await found.source(blob).read(0, size, signal)) pieces.push(piece);
    objects.set(blob.id, Buffer.concat(pieces));
  }
  const read = (id: string, offset: number, length: number) => objects.get(id)!.subarray(offset, offset + length);
  return rowsOf(openBootstrap(opened.bootstrap), opened.image, read);
}

async function changeEveryByte(t: TestContext, options: Partial<BuildOptions>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-bytes-'));
  const pool = createThreadPool(1);
  const opener = createImageOpener({}, pool, false);
  t.after(async () => {
    await opener.close();
    await pool.close();
    rmSync(directory, { recursive: true, force: true });
  });
  const layout = join(directory, 'layout');
  mkdirSync(layout);
  const built = await buildRafsV6(ENTRIES, {
    ...{ bootstrap: join(directory, 'boot'), blobs: join(directory, 'blobs'), pool },
    ...options,
  });
  await writeOciLayout(layout, built, { tag: 'app', blobs: join(directory, 'blobs') });
  const truth = await readAll(opener, layout);
  const random = randomSeries(5);
  const told = { changes: 0, harmless: 0 };
  const files = readdirSync(layout, { recursive: true, encoding: 'utf8' }).map((name) => join(layout, name));
  for (const file of files.filter((path) => statSync(path).isFile())) {
    const bytes = readFileSync(file);
    // Another start for each file, so that all kinds of fields are met.
    for (let at = Math.floor(random() * STEP); at < bytes.length; at += STEP) {
      const changed = Buffer.from(bytes);
      changed[at] ^= random() < 0.5 ? 1 << Math.floor(random() * 8) : 1 + Math.floor(random() * 255);
      writeFileSync(file, changed);
      told.changes++;
      try {
        assert.deepEqual(await readAll(opener, layout), truth, `byte ${at} of ${file}`);
        told.harmless++;
      } catch (error) {
        if (error instanceof assert.AssertionError) throw error;
        // `readChunk` says so itself; all else must be an error of ours.
        if (!/has another digest/.test((error as Error).message))
          assert.ok(error instanceof NymphError && error.code !== 'internal', `byte ${at} of ${file}: ${error}`);
      }
    }
    writeFileSync(file, bytes);
  }
  assert.deepEqual(await readAll(opener, layout), truth, 'all is as it was');
  t.diagnostic(`${told.changes} changes, ${told.harmless} without effect`);
}

test('a changed byte anywhere in an image is an error or has no effect: zstd', (t) =>
  changeEveryByte(t, { chunkSize: 4096 }));
test('a changed byte anywhere in an image is an error or has no effect: batches of lz4_block, sha256', (t) =>
  changeEveryByte(t, { chunkSize: 8192, batchSize: 4096, compressor: 'lz4_block', digester: 'sha256' }));
