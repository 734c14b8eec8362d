/** What is fetched of a model before anybody reads it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as othersTurn } from 'node:timers/promises';
import type { AttachedImage } from '../../src/mount/attach.ts';
import { fetchHeaders } from '../../src/mount/fill.ts';
import type { ServedBlobs } from '../../src/mount/served.ts';

const never = new AbortController().signal;

/** A model of so many small files, whose fetcher fails for one of them. */
function model(count: number, failing: number) {
  let active = 0;
  const state = { most: 0, done: 0 };
  const blobs = Array.from({ length: count }, (_, i) => ({
    cached: { size: 1_000 },
    fetcher: {
      async gather() {
        state.most = Math.max(state.most, ++active);
        await othersTurn();
        active--;
        if (i === failing) throw new Error('gone');
        state.done++;
      },
    },
  }));
  const stored = { blobs: blobs.map((_, i) => ({ path: `${i}.json` })) };
  return { image: { blobs, stored } as unknown as AttachedImage, state };
}

test('small files of a model are sent for a few at a time, so that readers need not wait behind thousands', async () => {
  const { image, state } = model(1_000, 3);
  await assert.rejects(fetchHeaders(image, {} as ServedBlobs, false, never), /gone/);
  assert.equal(state.done, 999);
  assert.ok(state.most > 1 && state.most <= 32, `${state.most} at once`);
});

test('that ends with the mount', async () => {
  const { image, state } = model(1_000, -1);
  await fetchHeaders(image, {} as ServedBlobs, false, AbortSignal.abort());
  assert.equal(state.done, 0);
});
