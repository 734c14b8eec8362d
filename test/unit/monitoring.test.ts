import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ALERTS, ALERTS_TEST, alerts, metricsIn, panels, queries } from '../monitoring.ts';
import { promtool } from '../prometheus.ts';

test('promtool takes the alerts, and they fire when they should', (t) => {
  const checked = promtool(['check', 'rules', ALERTS]);
  if (checked === undefined) return t.skip('needs promtool (Debian package prometheus)');
  assert.equal(checked.status, 0, checked.text);
  const tested = promtool(['test', 'rules', ALERTS_TEST]);
  assert.equal(tested?.status, 0, tested?.text);
});

test('alerts have a name each, and say what is wrong and what to do', () => {
  const list = alerts();
  assert.equal(new Set(list.map(({ alert }) => alert)).size, list.length);
  for (const { alert, annotations } of list) {
    assert.match(alert, /^Nymph[A-Z]/);
    assert.ok(annotations.summary.length > 20 && annotations.description.length > 20, alert);
  }
});

test('the panels of the dashboard do not lie on each other', () => {
  const all = panels();
  for (const [i, { title, gridPos: a }] of all.entries()) {
    assert.ok(a.x + a.w <= 24, title);
    for (const { title: other, gridPos: b } of all.slice(i + 1)) {
      const apart = a.x + a.w <= b.x || b.x + b.w <= a.x || a.y + a.h <= b.y || b.y + b.h <= a.y;
      assert.ok(apart, `${title} and ${other}`);
    }
  }
  assert.ok(queries().filter((query) => metricsIn(query).length > 0).length > 30);
});

test('metrics are found in queries', () => {
  const query =
    'sum by (le) (rate(nymph_x_seconds_bucket{instance=~"$i",source="a",le!="1"}[5m])) / up{job="nymph"} > process_b';
  assert.deepEqual(metricsIn(query), [
    { name: 'nymph_x_seconds_bucket', labels: ['source', 'le'] },
    { name: 'process_b', labels: [] },
  ]);
});
