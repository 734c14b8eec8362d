/** Fetchers that are there while there is something to fetch. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import { fetcherOnDemand } from '../../src/fetch/on-demand.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob, scriptedSource, unavailable } from '../blob.ts';

const pool = createThreadPool(1);
after(() => pool.close());
const signal = new AbortController().signal;

function stage(sizes: number[], script: Parameters<typeof scriptedSource>[1] = []) {
  const blob = makeBlob(sizes);
  const source = scriptedSource(blob.stored, script);
  const count = { made: 0, closed: 0 };
  const fetcher = fetcherOnDemand(blob.cached, () => {
    count.made++;
    const made = createFetcher(blob.cached, source, fetchContext(pool, { amplify: 0 }));
    return {
      ...made,
      async close() {
        await made.close();
        count.closed++;
      },
    };
  });
  return { blob, source, fetcher, count };
}

test('of a small blob there is one from the first need until it is whole', async () => {
  const { blob, fetcher, count } = stage([5000, 5000]);
  fetcher.reached(0);
  assert.deepEqual(count, { made: 0, closed: 0 });
  await fetcher.need(0, 5000, signal);
  await fetcher.need(0, 5000, signal);
  assert.deepEqual(count, { made: 1, closed: 0 });
  await Promise.all([fetcher.fill(0, blob.cached.size, signal), fetcher.need(8192, 1, signal)]);
  await fetcher.close();
  assert.deepEqual(count, { made: 1, closed: 1 });
  blob.close();
});

test('what is lost of a whole blob is fetched by another', async () => {
  const { blob, source, fetcher, count } = stage([5000]);
  await fetcher.need(0, 5000, signal);
  await fetcher.need(0, 5000, signal);
  blob.cached.ready.words.fill(0, 3);
  await fetcher.need(0, 5000, signal);
  await fetcher.close();
  assert.deepEqual([count.made, count.closed, source.asked.length], [3, 3, 2]);
  blob.close();
});

test('a large one is kept, and one that is closed fetches nothing', async () => {
  const { blob, source, fetcher, count } = stage([1_000_000, 1_000_000], [unavailable]);
  await fetcher.fill(0, blob.cached.size, signal);
  assert.deepEqual(count, { made: 1, closed: 0 });
  await fetcher.close();
  const asked = source.asked.length;
  blob.cached.ready.words.fill(0, 3);
  await assert.rejects(fetcher.need(0, 1, signal), { code: 'cancelled' });
  assert.equal(source.asked.length, asked);
  blob.close();
  const unused = stage([1_000]);
  await unused.fetcher.close();
  await assert.rejects(unused.fetcher.need(0, 1, signal), { code: 'cancelled' });
  assert.equal(unused.source.asked.length, 0);
  unused.blob.close();
});
