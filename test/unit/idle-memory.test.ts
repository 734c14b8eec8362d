import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { cleanProgram } from '../../src/daemon/idle-memory.ts';

const mapping = (range: string, mode: string, path: string, dirty: number, anonymous = dirty) =>
  `${range} ${mode} 00000000 fe:00 12    ${path}\nSize: 8 kB\nPrivate_Dirty: ${dirty} kB\nAnonymous: ${anonymous} kB\nSwap: 0 kB\nVmFlags: rd mr\n`;

test('only mappings of the program that were never written are given back', () => {
  const smaps = [
    mapping('1000-2000', 'r--p', '/bin/program', 0),
    mapping('2000-3000', 'r-xp', '/bin/program', 0),
    // Relocated, then locked.
    mapping('3000-4000', 'r--p', '/bin/program', 4),
    mapping('4000-5000', 'rw-p', '/bin/program', 0),
    mapping('5000-6000', 'r-xp', '/lib/other.so', 0),
    mapping('6000-7000', 'r--p', '/bin/program', 0, 4),
    '7000-8000 r--p 00000000 fe:00 12    /bin/program\nSize: 8 kB\n',
    mapping('8000-9000', 'rw-p', '', 4),
  ].join('');
  assert.deepEqual(cleanProgram(smaps, '/bin/program'), [
    { start: 0x1000n, end: 0x2000n },
    { start: 0x2000n, end: 0x3000n },
  ]);
});

test('of this process there is code and constants, and nothing that can be written', () => {
  const ranges = cleanProgram(readFileSync('/proc/self/smaps', 'utf8'));
  assert.ok(ranges.length > 0);
  const maps = readFileSync('/proc/self/maps', 'utf8').split('\n');
  for (const { start } of ranges) {
    const line = maps.find((candidate) => candidate.startsWith(`${start.toString(16).padStart(8, '0')}-`));
    assert.match(line ?? '', /^\S+ r-[x-]p /);
  }
});
