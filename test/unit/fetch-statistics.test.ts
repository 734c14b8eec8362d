import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bytesBySource, createFetchStatistics, statisticsOf, statisticsSoFar } from '../../src/fetch/statistics.ts';

test('a source that is only asked about gets no entry', () => {
  const statistics = createFetchStatistics();
  assert.equal(statisticsSoFar(statistics, 'nydusd').latency.quantile(0.5), undefined);
  assert.equal(statistics.sources.size, 0);
  statisticsOf(statistics, 'registry').bytes += 5;
  assert.equal(statisticsSoFar(statistics, 'registry').bytes, 5);
  statisticsOf(statistics, 'other').errors++;
  assert.deepEqual([...statistics.sources.keys()], ['registry', 'other']);
  assert.deepEqual(bytesBySource(statistics), { registry: 5 }, 'one that has only failed has brought nothing');
});
