/** Images of many layers: the kernel takes one page of mount options for all their devices. */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { cannotMount, testDaemon } from '../daemon.ts';
import { makeImage } from '../made-image.ts';

const BLOBS = 80;

test('an image of 80 blobs is mounted, lazily and when it is all here', { skip: cannotMount() }, async (t) => {
  const daemon = await testDaemon(t);
  const images = join(daemon.directory, 'images');
  mkdirSync(images);
  const fill = (tree: string) => {
    for (let i = 0; i < BLOBS; i++) writeFileSync(join(tree, `file-${i}`), `content of file ${i}\n`.repeat(100 + i));
  };
  const { layout, tag, truth } = await makeImage(images, 'many', fill, { split: (path) => path.toString() });
  for (const how of ['lazily', 'whole']) {
    const place = daemon.place(how);
    if (how === 'whole') {
      const pulled = await daemon.nymph('pull', `oci:${layout}:${tag}`);
      assert.equal(pulled.status, 0, pulled.err);
    }
    const mounted = await daemon.nymph('mount', '--prefetch', 'none', `oci:${layout}:${tag}`, place);
    assert.equal(mounted.status, 0, mounted.err);
    for (let i = 0; i < BLOBS; i++)
      assert.equal(readFileSync(join(place, `file-${i}`), 'utf8'), readFileSync(join(truth, `file-${i}`), 'utf8'));
    assert.equal((await daemon.nymph('umount', place)).status, 0);
  }
});
