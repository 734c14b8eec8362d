/** Frames that are written as they come. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import type { CachedBlob } from '../../src/cache/cache.ts';
import { countReady, createReadyMap } from '../../src/cache/ready-map.ts';
import { createFlight, type Flight } from '../../src/fetch/flight.ts';
import type { Part, Storage } from '../../src/fetch/store-flights.ts';
import { isPlain, storePlain } from '../../src/fetch/store-plain.ts';

const SIZE = 8192;
const CONTENT = randomBytes(3 * SIZE);

/** Two frames behind the first 8 KiB of a file, in pieces of odd sizes. */
function stage(t: TestContext, flags: string) {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-plain-'));
  const path = join(directory, 'data');
  writeFileSync(path, Buffer.alloc(3 * SIZE));
  const fd = openSync(path, flags);
  t.after(() => {
    closeSync(fd);
    rmSync(directory, { recursive: true });
  });
  const flights = [SIZE, 2 * SIZE].map((offset) => {
    const chunks = [{ offset, size: SIZE, frameOffset: 0, digest: new Uint8Array(0) }];
    return createFlight({ offset, size: SIZE, decodedSize: SIZE, codec: 'none', chunks }, undefined, () => {});
  });
  const blob = { fd, ready: createReadyMap(3 * SIZE), digestAlgorithm: 'none' } as unknown as CachedBlob;
  const refused: string[] = [];
  const storage = {
    ...{ blob, name: 'a', statistics: {}, arrived: () => {} },
    refused: (reason: string) => refused.push(reason),
  } as unknown as Storage;
  const part: Part = { start: SIZE, end: 3 * SIZE, flights };
  const pieces: Uint8Array[] = [];
  for (let at = SIZE; at < 3 * SIZE; at += 1000) pieces.push(CONTENT.subarray(at, Math.min(at + 1000, 3 * SIZE)));
  return { storage, part, pieces, flights, refused, blob, data: () => readFileSync(path) };
}

const outcome = (flight: Flight) => flight.arrived.then((loose) => loose.map(({ offset, bytes }) => [offset, bytes]));

test('each frame lands at its place, whatever pieces it came in', async (t) => {
  const { storage, part, pieces, flights, blob, data } = stage(t, 'r+');
  assert.ok(isPlain(blob, part));
  await storePlain(storage, part, pieces);
  assert.deepEqual(data().subarray(SIZE), CONTENT.subarray(SIZE));
  assert.deepEqual(await Promise.all(flights.map(outcome)), [[], []]);
  assert.equal(countReady(blob.ready), 4);
});

test('what the disk does not take travels in memory', async (t) => {
  const { storage, part, pieces, flights, refused, blob } = stage(t, 'r');
  await storePlain(storage, part, pieces);
  const found = await Promise.all(flights.map(outcome));
  assert.deepEqual(found, [[[SIZE, CONTENT.subarray(SIZE, 2 * SIZE)]], [[2 * SIZE, CONTENT.subarray(2 * SIZE)]]]);
  assert.deepEqual([refused.length, countReady(blob.ready)], [2, 0]);
});

test('a frame that comes twice is written once: the file may be checked already', async (t) => {
  const { storage, part, pieces, flights, data } = stage(t, 'r+');
  flights[0].settle([]);
  const first = storePlain(storage, part, pieces);
  const second = storePlain(
    storage,
    part,
    pieces.map((piece) => Buffer.alloc(piece.length, 1)),
  );
  await Promise.all([first, second]);
  assert.deepEqual(data().subarray(2 * SIZE), CONTENT.subarray(2 * SIZE));
  assert.deepEqual(data().subarray(SIZE, 2 * SIZE), Buffer.alloc(SIZE), 'one that was here already');
});
