import assert from 'node:assert/strict';
import { test } from 'node:test';
import { progressLine, progressView } from '../../src/cli/progress.ts';

const MIB = 2 ** 20;

test('a progress line has what is known', () => {
  assert.equal(progressLine({ stage: 'resolving' }, undefined), 'resolving');
  assert.equal(progressLine({ stage: 'fetching', done: MIB }, MIB), 'fetching  1 MiB  1 MiB/s');
  assert.equal(
    progressLine({ stage: 'fetching', done: 50 * MIB, total: 200 * MIB }, 10 * MIB),
    'fetching  [######------------------]  25%  50 MiB of 200 MiB  10 MiB/s  15 s left',
  );
  const full = progressLine({ stage: 'fetching', done: 300, total: 200 }, undefined);
  assert.equal(full, 'fetching  [########################] 100%  300 B of 200 B');
  assert.equal(progressLine({ stage: 'x', done: 0, total: 0 }, undefined), 'x  0 B');
  assert.equal(progressLine({ stage: 'a\x1b[2Jb' }, undefined), 'a\ufffd[2Jb');
});

test('the view redraws in place, seldom, within the width, with the rate of the last seconds', () => {
  let time = 0;
  const written: string[] = [];
  const stream = { isTTY: true, columns: 40, write: (text: string) => written.push(text) };
  const view = progressView(stream, () => time);
  view.update({ stage: 'resolving' });
  // 10 MiB/s for ten seconds, then 1 MiB/s: the rate must forget.
  for (let i = 0; i < 1000; i++, time += 10) view.update({ stage: 'f', done: (i * 10 * MIB) / 100 });
  for (let i = 0; i < 1000; i++, time += 10) view.update({ stage: 'f', done: 100 * MIB + (i * MIB) / 100 });
  assert.ok(written.length <= 202, `${written.length} redraws`);
  assert.equal(written[0], '\rresolving\x1b[K');
  assert.match(written.at(-1)!, /^\rf {2}1\d\d MiB {2}1 MiB\/s\x1b\[K$/);
  view.update({ stage: 'g', done: 1, total: 3 });
  assert.equal(written.at(-1)!.length, '\r'.length + 39 + '\x1b[K'.length);
  view.clear();
  assert.equal(written.at(-1), '\r\x1b[K');
});

test('a terminal that does not know its width has 80 columns', () => {
  const written: string[] = [];
  const view = progressView({ isTTY: true, columns: 0, write: (text) => written.push(text) });
  view.update({ stage: 'resolving' });
  assert.deepEqual(written, ['\rresolving\x1b[K']);
});

test('nothing is drawn where nobody watches', () => {
  const stream = {
    write: () => {
      throw new Error('written');
    },
  };
  const view = progressView(stream);
  view.update({ stage: 'a' });
  view.clear();
});
