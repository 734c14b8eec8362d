/** How the blobs of an image are opened. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setImmediate as othersTurn } from 'node:timers/promises';
import type { Cache, StoredImage } from '../../src/cache/cache.ts';
import { reattachMounted } from '../../src/mount/attach.ts';
import type { ServedBlobs } from '../../src/mount/served.ts';

/** An image of so many blobs, of which one is gone. */
function stage(count: number, gone: number) {
  const state = { active: 0, most: 0, served: 0 };
  const cache = {
    async reopen(key: string) {
      state.most = Math.max(state.most, ++state.active);
      await othersTurn();
      state.active--;
      return Number(key) === gone ? undefined : { key };
    },
    bootstrapPath: () => '',
  } as unknown as Cache;
  const served = {
    async serve(cached: object) {
      state.served++;
      return { cached };
    },
    release: async () => void state.served--,
  } as unknown as ServedBlobs;
  const blobs = Array.from({ length: count }, (_, i) => ({ key: String(i) }));
  const stored = { reference: 'a', blobs } as unknown as StoredImage;
  return { state, open: () => reattachMounted(stored, cache, served, () => undefined as never) };
}

test('blobs are opened some at a time, and stand in their order', async () => {
  const { state, open } = stage(1_000, -1);
  const image = await open();
  assert.deepEqual(
    image.blobs.map(({ cached }) => cached.key),
    Array.from({ length: 1_000 }, (_, i) => String(i)),
  );
  assert.ok(state.most > 1 && state.most <= 64, `${state.most} at once`);
});

test('where one is gone, the others are given back', async () => {
  const { state, open } = stage(1_000, 500);
  await assert.rejects(open(), /is gone from the cache/);
  assert.equal(state.served, 0);
});
