import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { buildRafsV6 } from '../../src/formats/rafs/write/build.ts';
import { contentOf } from '../../src/formats/rafs/write/source.ts';
import { run } from '../../src/mount/load-job.ts';

const directory = mkdtempSync(join(tmpdir(), 'nymph-load-'));
after(() => rmSync(directory, { recursive: true }));

test('the tables of an image are handed over, not copied', async () => {
  const bootstrap = join(directory, 'bootstrap');
  const entries = ['a', 'b'].map((name) => ({ path: name, mode: 0o100644, ...contentOf(Buffer.from(name)) }));
  await buildRafsV6(entries, { bootstrap, blobs: join(directory, 'blobs'), split: (path) => path.toString() });
  const input = { kind: 'bootstrap' as const, bytes: readFileSync(bootstrap) };
  const { output, transfer = [] } = run({ input, sizes: new Map(), ranges: new Map() });
  assert.ok(output.type === 'done');
  const { blobs } = output.loaded.image;
  assert.equal(blobs.length, 2);
  const arrays = blobs.flatMap(({ chunks, frames }) => [...Object.values(chunks), ...Object.values(frames)]);
  for (const array of arrays) if (ArrayBuffer.isView(array)) assert.ok(transfer.includes(array.buffer as ArrayBuffer));
  const received = structuredClone(output, { transfer });
  assert.equal(received.loaded.image.blobs[1].chunks.count, 1);
  assert.equal(received.loaded.image.blobs[1].chunks.digest.length, 32);
  assert.equal(blobs[1].chunks.digest.length, 0, 'gone from here');
});
