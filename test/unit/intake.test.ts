/** What a stream brings, on its way into the cache. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, test } from 'node:test';
import { createFlight, type Flight } from '../../src/fetch/flight.ts';
import { frameAt, indexFrames } from '../../src/fetch/frame-index.ts';
import { createIntake } from '../../src/fetch/intake.ts';
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
