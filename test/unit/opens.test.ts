/** Who has files of models open: as it is kept for the daemon that comes next. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createOpens, type OpenFile, type OpenFileStore } from '../../src/fuse/opens.ts';

function memory(): OpenFileStore & { kept: Map<number, OpenFile> } {
  const kept = new Map<number, OpenFile>();
  return {
    kept,
    list: () => [...kept.values()],
    put: (file) => void kept.set(file.handle, file),
    remove: (handle) => void kept.delete(handle),
  };
}

test('an OPEN that the kernel repeats to the next daemon is the same open file, and one RELEASE ends it', () => {
  const store = memory();
  const first = createOpens(-1, store).open(8, 100, undefined);
  const next = createOpens(-1, store);
  assert.deepEqual(next.open(8, 100, undefined), first);
  assert.equal(store.kept.size, 1);
  next.release(8);
  assert.equal(store.kept.size, 0);
});

test('of files that are gone nothing stays open', () => {
  const store = memory();
  const opens = createOpens(-1, store);
  for (const [handle, ino] of [
    [2, 100],
    [4, 100],
    [6, 300],
  ])
    opens.open(handle, ino, undefined);
  opens.forget(100, 200);
  assert.deepEqual(
    store.list().map(({ ino }) => ino),
    [300],
  );
});
