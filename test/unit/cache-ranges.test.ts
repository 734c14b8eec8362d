/** Ranges of inode numbers for trees: what the kernel remembers of them must never mean something else. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import Database from 'better-sqlite3';
import { FIRST_RANGE } from '../../src/cache/cache.ts';
import { openCache } from '../../src/cache/open.ts';

function directory(t: TestContext): string {
  const root = mkdtempSync(join(tmpdir(), 'nymph-ranges-'));
  t.after(() => rmSync(root, { recursive: true }));
  return root;
}

async function ranges(root: string, ...asked: [name: string, count: number][]): Promise<number[]> {
  const cache = await openCache(root);
  try {
    return asked.map(([name, count]) => cache.inodeRange(name, count));
  } finally {
    await cache.close();
  }
}

test('a name keeps its range, another gets the next, one that grows gets a new one', async (t) => {
  const root = directory(t);
  const size = 2 ** 20;
  assert.deepEqual(await ranges(root, ['a', size], ['b', 3 * size], ['a', size]), [
    FIRST_RANGE,
    FIRST_RANGE + size,
    FIRST_RANGE,
  ]);
  assert.deepEqual(await ranges(root, ['b', 3 * size], ['c', size], ['a', 2 * size], ['d', size]), [
    FIRST_RANGE + size,
    FIRST_RANGE + 4 * size,
    FIRST_RANGE + 5 * size,
    FIRST_RANGE + 7 * size,
  ]);
  await assert.rejects(ranges(root, ['e', 2 ** 47]), { code: 'unsupported' });
});

test('a catalogue of version 1 is taken on; a new one in place of a lost one begins elsewhere', async (t) => {
  const root = directory(t);
  await ranges(root);
  const path = join(root, 'catalogue.db');
  const old = new Database(path);
  old.exec('DROP TABLE ranges; PRAGMA user_version = 1; PRAGMA application_id = 0x4e590001');
  old.close();
  assert.deepEqual(await ranges(root, ['a', 2 ** 20]), [FIRST_RANGE]);

  const damaged = new Database(path);
  damaged.exec('PRAGMA user_version = 77');
  damaged.close();
  const [first] = await ranges(root, ['b', 2 ** 20]);
  assert.ok(first >= FIRST_RANGE + 2 ** 40 && first < 2 ** 48, String(first));
});
