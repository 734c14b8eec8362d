/** What a stream brings, on its way into the cache. */
import assert from 'node:assert/strict';
import { hash, randomBytes } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { after, describe, type TestContext, test } from 'node:test';
import type { CachedBlob } from '../../src/cache/cache.ts';
import { createFlight, type Flight } from '../../src/fetch/flight.ts';
import { frameAt, indexFrames } from '../../src/fetch/frame-index.ts';
import { createIntake } from '../../src/fetch/intake.ts';
import type { Storage } from '../../src/fetch/store-flights.ts';
import { storePlain } from '../../src/fetch/store-plain.ts';
import { blobOf } from '../../src/formats/files/blob.ts';
import { objectOf } from '../../src/image/files.ts';
import type { ChunkTable, FrameTable } from '../../src/image/image.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { fetchContext, makeBlob } from '../blob.ts';

const pool = createThreadPool(2);
after(() => pool.close());

/** All but the first row. */
function withoutFirst({ chunks, frames }: { chunks: ChunkTable; frames: FrameTable }) {
  return indexFrames(
    {
      count: chunks.count - 1,
      offset: chunks.offset.subarray(1),
      size: chunks.size.subarray(1),
      digest: chunks.digest.subarray(32),
      frame: chunks.frame.subarray(1).map((frame) => frame - 1),
      frameOffset: chunks.frameOffset.subarray(1),
    },
    {
      count: frames.count - 1,
      offset: frames.offset.subarray(1),
      size: frames.size.subarray(1),
      decodedSize: frames.decodedSize.subarray(1),
      codec: frames.codec.subarray(1),
    },
  );
}

test('another image may add to the tables while a piece is taken', async () => {
  const blob = makeBlob(Array.from({ length: 200 }, (_, i) => 20_000 + ((i * 7919) % 20_000)));
  const whole = indexFrames(blob.cached.chunks, blob.cached.frames);
  let index = withoutFirst(blob.cached);
  const flights = new Map<number, Flight>();
  const intake = createIntake({
    blob: blob.cached,
    name: 'swarm',
    context: fetchContext(pool, {}),
    tables: () => index,
    flightOf(frame) {
      const flight = createFlight(frameAt(index, frame), undefined, () => {});
      flights.set(flight.frame.offset, flight);
      return flight;
    },
    wrong: () => {},
    refused: () => {},
  });
  setImmediate(() => {
    index = whole;
  });
  const bytes = new Uint8Array(blob.stored);
  await intake.take({ offset: 0, length: bytes.length, bytes, from: 'peer' });
  await intake.stored();
  assert.equal(intake.spoiled, undefined);
  assert.equal(flights.size, 199);
  assert.ok([...flights.values()].every(({ settled }) => settled));
  const second = blob.cached.chunks.offset[1];
  assert.deepEqual(readFileSync(blob.cached.dataPath).subarray(second), blob.flat.subarray(second));
  blob.close();
});

describe('a file without digests of pieces, which may be checked already', () => {
  const RIGHT = randomBytes(6 << 20);
  const FRAME = 1 << 20;

  /** Its cache entry, and an intake that takes off flights as a fetcher does. */
  function stage(t: TestContext) {
    const made = makeBlob([RIGHT.length]);
    t.after(() => made.close());
    const { chunks, frames } = blobOf(
      objectOf({ size: RIGHT.length, whole: { algorithm: 'sha256', hex: hash('sha256', RIGHT) }, place: 'a' }),
    );
    const blob: CachedBlob = { ...made.cached, digestAlgorithm: 'none', chunks, frames };
    const index = indexFrames(chunks, frames);
    const flights = new Map<number, Flight>();
    const flightOf = (frame: number) => {
      const known = flights.get(frame);
      if (known !== undefined) return known;
      const flight = createFlight(frameAt(index, frame), undefined, () => flights.delete(frame));
      flights.set(frame, flight);
      return flight;
    };
    const context = fetchContext(pool, {});
    const parts = { blob, name: 'swarm', context, tables: () => index, flightOf, wrong: () => {}, refused: () => {} };
    /** A request brings right bytes of a frame. */
    async function request(frame: number): Promise<void> {
      const start = frame * FRAME;
      const storage: Storage = { ...context, ...parts, arrived: () => {} };
      const part = { start, end: start + FRAME, flights: [flightOf(frame)] };
      await storePlain(storage, part, [RIGHT.subarray(start, start + FRAME)]);
    }
    const lies = new Uint8Array(RIGHT.length).fill(1);
    const lie = { offset: 0, length: RIGHT.length, bytes: lies, from: 'peer' } as const;
    const data = (frame: number) => readFileSync(made.cached.dataPath).subarray(frame * FRAME, (frame + 1) * FRAME);
    const right = (frame: number) => RIGHT.subarray(frame * FRAME, (frame + 1) * FRAME);
    return { intake: createIntake(parts), request, flightOf, lie, data, right };
  }

  test('what requests bring while a piece is taken is not written again', async (t) => {
    const { intake, request, lie, data, right } = stage(t);
    const taking = intake.take(lie);
    await request(5);
    await taking;
    await intake.stored();
    assert.ok(data(5).equals(right(5)));
  });

  test('what a request is writing is not written again', async (t) => {
    const { intake, request, lie, data, right } = stage(t);
    const writing = request(0);
    await intake.take(lie);
    await Promise.all([writing, intake.stored()]);
    assert.ok(data(0).equals(right(0)));
  });

  test('what a stream is writing is on its way until it is written, whatever becomes of its request', async (t) => {
    const { intake, flightOf, lie } = stage(t);
    const flight = flightOf(0);
    await Promise.all([
      intake.take(lie),
      (async () => {
        flight.fail(new Error('the request has failed'));
        assert.ok(!flight.settled);
        assert.equal(flightOf(0), flight);
      })(),
    ]);
    await intake.stored();
    assert.deepEqual(await flight.arrived, []);
  });
});
