/** The list of open files on a disk that is full for a while. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { StoredOpenFile } from '../../src/cache/cache.ts';
import { patientOpenFiles } from '../../src/cache/open-files.ts';

test('an open and a close succeed on a full disk, and are written when it takes them', () => {
  const kept = new Map<number, StoredOpenFile>();
  const failures: string[] = [];
  let full = false;
  const write = (change: () => void) => {
    if (full) throw new Error('database or disk is full');
    change();
  };
  const files = patientOpenFiles(
    {
      list: () => [...kept.values()],
      put: (file) => write(() => kept.set(file.handle, file)),
      remove: (handle) => write(() => kept.delete(handle)),
    },
    { failed: (what) => failures.push(what) },
  );
  const file = (handle: number) => ({ handle, ino: 7, backing: 0 });
  files.put(file(1));
  full = true;
  files.remove(1);
  files.put(file(2));
  files.put(file(3));
  files.remove(3);
  assert.deepEqual([[...kept.keys()], failures.length], [[1], 4]);
  full = false;
  files.put(file(4));
  assert.deepEqual(
    files
      .list()
      .map(({ handle }) => handle)
      .sort(),
    [2, 4],
  );
});
