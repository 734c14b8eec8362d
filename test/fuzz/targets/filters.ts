/** containerd's filters of snapshots, and labels. */
import { parseFilters } from '../../../src/snapshotter/filters.ts';
import { changedLabels, requestLabels } from '../../../src/snapshotter/labels.ts';
import { originOf } from '../../../src/snapshotter/origin.ts';
import type { Info } from '../../../src/snapshotter/snapshotter.ts';
import { ensure, type Target } from '../target.ts';

const INFOS: Info[] = ['active', 'committed', 'view'].map((kind, i) => ({
  ...{ name: `default/${i}/sha256:${'a'.repeat(64)}`, parent: i === 0 ? '' : 'default/0/x', created: 1n, updated: 2n },
  kind: kind as Info['kind'],
  labels: { 'containerd.io/gc.root': '2026', a: 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!', '': 'empty' },
}));

export const target: Target = {
  name: 'filters',
  text: true,
  seeds: () =>
    [
      'kind==active,parent!=""',
      'name~=/^default\\/1/',
      'labels."containerd.io/gc.root"',
      'labels.containerd.io/gc.root==2026',
      'labels.a~=|(?i)A+!|',
      'labels.a~=/(a+)+$/',
      'name=="\\x64\\u0065\\U00000066\\141"',
      ' kind == committed\nlabels.containerd.io/snapshot/cri.image-ref=registry.example/app:1',
    ].map((text) => Buffer.from(text)),
  errors: ['usage'],
  limit: 8 << 10,
  words: [
    'kind',
    'name',
    'parent',
    'labels',
    'labels.',
    '==',
    '!=',
    '~=',
    ',',
    '.',
    '"',
    '/',
    '|',
    '\\',
    '(?i)',
    '(a+)+',
    '(a|a)*',
    '.*',
    '[',
    '{1,99999}',
    '\\1',
    '(?=',
    '__proto__',
    'constructor',
    'active',
    '\\x00',
    '\\ud800',
    '\\U0010ffff',
  ],
  run(input) {
    const text = Buffer.from(input).toString('utf8');
    const [first, ...lines] = text.split('\n');
    const given = Object.fromEntries(lines.map((line) => line.split('=', 2)).map(([key, value = '']) => [key, value]));
    const labels = requestLabels(given);
    const changed = changedLabels(
      INFOS[0].labels,
      given,
      lines.map((line) => `labels.${line.split('=', 1)[0]}`),
      true,
    );
    for (const value of [...Object.values(labels), ...Object.values(changed)])
      ensure(typeof value === 'string', `a label that is no text: ${typeof value}`);
    originOf(labels);
    const matches = parseFilters([first]);
    return INFOS.map((info) => matches(info)).join();
  },
};
