/** Two connections with the same files and trees. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createReadyMap } from '../../src/cache/ready-map.ts';
import type { Driver, DriverStatistics, FileSystem, RegisteredFile, RegisteredTree } from '../../src/fuse/driver.ts';
import { twoDrivers } from '../../src/fuse/two-drivers.ts';

const fileSystem = {} as FileSystem;
const file: RegisteredFile = { ino: 7, size: 0, fd: 0, ready: createReadyMap(0) };
const tree = { first: 2 ** 47 } as RegisteredTree;

/** A driver that notes what it is told; it takes its time to let go. */
function recorder(name: string, said: string[], statistics: DriverStatistics): Driver {
  const note = (what: string) => void said.push(`${name} ${what}`);
  const later = (what: string) => new Promise<void>((resolve) => setImmediate(() => resolve(note(what))));
  return {
    name: 'kernel',
    start: async (served) => note(served === fileSystem ? 'starts' : 'starts with another file system'),
    register: ({ ino }) => note(`has ${ino}`),
    unregister: (ino) => later(`is without ${ino}`),
    registerTree: () => note('has a tree'),
    unregisterTree: () => later('is without a tree'),
    statistics: () => statistics,
    stop: () => later('has stopped'),
  };
}

const counted = (requests: Record<string, number>, hits: number): DriverStatistics => ({
  requests,
  hits,
  hitBytes: 10 * hits,
  faults: 1,
  waiting: 2,
});

test('both know all files and trees, and let go of them before they are closed; the second starts when it is needed', async () => {
  const said: string[] = [];
  const both = twoDrivers(recorder('a', said, counted({}, 0)), recorder('b', said, counted({}, 0)), false);
  both.register(file);
  both.registerTree(tree);
  await both.start(fileSystem);
  await both.startSecond();
  await both.unregister(7);
  await both.unregisterTree(tree.first);
  await both.stop();
  assert.deepEqual(said, [
    ...['a has 7', 'b has 7', 'a has a tree', 'b has a tree', 'a starts', 'b starts'],
    ...[
      'a is without 7',
      'b is without 7',
      'a is without a tree',
      'b is without a tree',
      'a has stopped',
      'b has stopped',
    ],
  ]);
});

test('a second that is open starts with the first, and what both did is counted together', async () => {
  const said: string[] = [];
  const [a, b] = [counted({ open: 1, read: 2 }, 3), counted({ read: 40, lookup: 5 }, 60)];
  const both = twoDrivers(recorder('a', said, a), recorder('b', said, b), true);
  await both.start(fileSystem);
  assert.deepEqual(said, ['a starts', 'b starts']);
  assert.deepEqual(both.statistics(), {
    requests: { open: 1, read: 42, lookup: 5 },
    hits: 63,
    hitBytes: 630,
    faults: 2,
    waiting: 4,
  });
});
