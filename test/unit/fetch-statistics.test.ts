import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NymphError } from '../../src/errors.ts';
import {
  bytesBySource,
  countEnd,
  createFetchStatistics,
  statisticsOf,
  statisticsSoFar,
} from '../../src/fetch/statistics.ts';

test('a source that is only asked about gets no entry', () => {
  const statistics = createFetchStatistics();
  assert.equal(statisticsSoFar(statistics, 'nydusd').latency.quantile(0.5), undefined);
  assert.equal(statistics.sources.size, 0);
  statisticsOf(statistics, 'registry').bytes += 5;
  assert.equal(statisticsSoFar(statistics, 'registry').bytes, 5);
  countEnd(statisticsOf(statistics, 'other'), new NymphError('denied', 'no'));
  countEnd(statisticsOf(statistics, 'other'), new TypeError('a defect'));
  const { errors, errorTypes } = statisticsOf(statistics, 'other');
  assert.deepEqual(
    [errors, [...errorTypes]],
    [
      2,
      [
        ['denied', 1],
        ['unknown', 1],
      ],
    ],
  );
  assert.deepEqual([...statistics.sources.keys()], ['registry', 'other']);
  assert.deepEqual(bytesBySource(statistics), { registry: 5 }, 'one that has only failed has brought nothing');
});
