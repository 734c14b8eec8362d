import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatDuration, formatSize, parseDuration, parseSize } from '../../src/daemon/units.ts';

test('sizes', () => {
  const right: [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['1B', 1],
    ['1kB', 1000],
    ['1KiB', 1024],
    ['64MiB', 64 * 2 ** 20],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['2TB', 2e12],
    ['0.1KiB', 102],
  ];
  for (const [text, bytes] of right) assert.equal(parseSize(text), bytes, text);
  const wrong = [
    '',
    'MiB',
    '-1',
    '1Mb',
    '1mib',
    '1  MiB',
    '1e3',
    '1.',
    '.5',
    '0x10',
    '9999999TiB',
    '1constructor',
    ' 1',
    '1\n',
  ];
  for (const text of wrong) assert.equal(parseSize(text), undefined, text);
});

test('durations', () => {
  const right: [string, number][] = [
    ['0s', 0],
    ['250ms', 250],
    ['60s', 60_000],
    ['1m30s', 90_000],
    ['1h', 3_600_000],
    ['1d2h3m4s5ms', 93_784_005],
  ];
  for (const [text, time] of right) assert.equal(parseDuration(text), time, text);
  const wrong = ['', '60', '-1s', '1.5s', '1s1m', '1s1s', '1 s', '1x', '25d', '99999999999s', '1s\n'];
  for (const text of wrong) assert.equal(parseDuration(text), undefined, text);
});

test('sizes for people', () => {
  const cases: [number, string][] = [
    [0, '0 B'],
    [999, '999 B'],
    [1023, '1023 B'],
    [2 ** 20 - 1, '1 MiB'],
    [1536, '1.5 KiB'],
    [64 * 2 ** 20, '64 MiB'],
    [1.234 * 2 ** 30, '1.23 GiB'],
    [2 ** 60, '1024 PiB'],
  ];
  for (const [bytes, text] of cases) assert.equal(formatSize(bytes), text);
});

test('durations for people', () => {
  const cases: [number, string][] = [
    [0, '0 ms'],
    [999, '999 ms'],
    [4200, '4.2 s'],
    [59_960, '1m00s'],
    [185_000, '3m05s'],
    [7_800_000, '2h10m'],
    [273_600_000, '3d04h'],
  ];
  for (const [time, text] of cases) assert.equal(formatDuration(time), text);
});
