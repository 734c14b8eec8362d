import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkTables, type Ledger, ledgerOf } from '../../src/cache/ledger.ts';
import { decodeLedger, encodeLedger } from '../../src/cache/ledger-file.ts';
import { mergeLedgers } from '../../src/cache/merge-ledgers.ts';
import { digestOf } from '../../src/codec/digest.ts';
import { NymphError } from '../../src/errors.ts';
import type { Blob, ChunkTable, FrameTable } from '../../src/image/image.ts';
import { contradict, makeSample, ociDigest, partOf } from './cache-kit.ts';

const random = (n: number) => Math.floor(Math.random() * n);

/** Plain values: what a table says, whatever its arrays are views of. */
function plain(ledger: Ledger) {
  const { chunks, frames } = ledger;
  const rows = (table: ChunkTable | FrameTable) =>
    Object.fromEntries(Object.entries(table).map(([name, value]) => [name, Array.from(value as Iterable<number>)]));
  return {
    ...ledger,
    chunks: rows({ ...chunks, count: [] } as never),
    frames: rows({ ...frames, count: [] } as never),
  };
}

function assertSame(a: Ledger, b: Ledger): void {
  assert.equal(a.chunks.count, b.chunks.count);
  assert.equal(a.frames.count, b.frames.count);
  assert.deepEqual(plain(a), plain(b));
}

test('the union of random parts is the whole, in any order', () => {
  for (let round = 0; round < 100; round++) {
    const { blob } = makeSample(`union ${round}`, 1 + random(60));
    const parts = 1 + random(4);
    const owner = Array.from({ length: blob.chunks.count }, () => random(parts));
    let ledger: Ledger | undefined;
    for (let part = 0; part < parts; part++) {
      const seen = ledgerOf(partOf(blob, (chunk) => owner[chunk] === part || Math.random() < 0.3));
      ledger = ledger ? mergeLedgers(ledger, seen) : seen;
      assert.ok(ledger);
      checkTables(ledger);
    }
    const whole = ledgerOf(partOf(blob, () => true));
    assertSame(ledger!, whole);
    // Nothing new: the very same object.
    const part = ledgerOf(partOf(blob, () => random(2) === 0));
    assert.equal(mergeLedgers(ledger!, part), ledger);
    assertSame(mergeLedgers(part, ledger!)!, whole);
  }
});

test('an empty part adds nothing and gets all', () => {
  const { blob } = makeSample('empty', 10);
  const whole = ledgerOf(blob);
  const none = ledgerOf(partOf(blob, () => false));
  assert.equal(mergeLedgers(whole, none), whole);
  assertSame(mergeLedgers(none, whole)!, whole);
  assert.equal(mergeLedgers(none, none), none);
});

/** Copies of all arrays, so that one value can be changed. */
function changed(blob: Blob, change: (chunks: ChunkTable, frames: FrameTable) => void): Blob {
  const chunks = structuredClone(blob.chunks);
  const frames = structuredClone(blob.frames);
  change(chunks, frames);
  return { ...blob, chunks, frames };
}

test('every contradiction is found', () => {
  for (let round = 0; round < 30; round++) {
    const { blob } = makeSample(`contradiction ${round}`, 5 + random(30));
    const at = 2 + random(blob.chunks.count - 3);
    const frame = blob.chunks.frame[at];
    const others: Record<string, Blob> = {
      digest: contradict(blob, at),
      'chunk size': changed(blob, (chunks) => {
        chunks.size[at] += chunks.size[at] > 1 ? -1 : 1;
      }),
      'chunk offset': changed(blob, (chunks) => {
        chunks.offset[at] += chunks.size[at] > 4096 ? 4096 : 0.5;
      }),
      'frame place': changed(blob, (_, frames) => {
        frames.offset[frame] += 0.5;
      }),
      'frame size': changed(blob, (_, frames) => {
        frames.size[frame] += 1;
      }),
      'decoded size': changed(blob, (_, frames) => {
        frames.decodedSize[frame] += 1;
      }),
      codec: changed(blob, (_, frames) => {
        frames.codec[frame] = 1;
      }),
      'place in the frame': changed(blob, (chunks) => {
        chunks.frameOffset[at] += 1;
      }),
      'digest of the object': { ...blob, digest: ociDigest('other') },
      algorithm: { ...blob, digestAlgorithm: 'blake3' },
      'blob size': { ...blob, size: blob.size + 4096 },
    };
    for (const [what, other] of Object.entries(others)) {
      assert.equal(mergeLedgers(ledgerOf(blob), ledgerOf(other)), undefined, what);
      assert.equal(mergeLedgers(ledgerOf(other), ledgerOf(blob)), undefined, what);
    }
  }
});

test('a chunk that overlaps the gap behind another is a contradiction', () => {
  const { blob } = makeSample('overlap', 6, 20_000);
  const even = partOf(blob, (chunk) => chunk % 2 === 0);
  const longer = changed(
    partOf(blob, (chunk) => chunk === 1),
    (chunks, frames) => {
      const size = blob.chunks.offset[2] - blob.chunks.offset[1] + 1;
      chunks.size[0] = size;
      frames.decodedSize[0] = size + chunks.frameOffset[0];
    },
  );
  assert.equal(mergeLedgers(ledgerOf(even), ledgerOf(longer)), undefined);
  assert.equal(mergeLedgers(ledgerOf(longer), ledgerOf(even)), undefined);
});

test('tables that break their promises are refused', () => {
  const { blob } = makeSample('broken', 12);
  const cases: [string, (chunks: ChunkTable, frames: FrameTable) => void][] = [
    [
      'not aligned',
      (chunks) => {
        chunks.offset[3] += 1;
      },
    ],
    [
      'not ascending',
      (chunks) => {
        chunks.offset[3] = 0;
      },
    ],
    [
      'not a number',
      (chunks) => {
        chunks.offset[3] = Number.NaN;
      },
    ],
    [
      'negative',
      (chunks) => {
        chunks.offset[0] = -4096;
      },
    ],
    [
      'behind the end',
      (chunks) => {
        chunks.size[11] = 0xffffffff;
      },
    ],
    [
      'empty',
      (chunks) => {
        chunks.size[3] = 0;
      },
    ],
    [
      'no such frame',
      (chunks) => {
        chunks.frame[3] = 1000;
      },
    ],
    [
      'outside the frame',
      (chunks) => {
        chunks.frameOffset[3] = 0xffffffff;
      },
    ],
    [
      'frames overlap',
      (_, frames) => {
        frames.offset[2] = 0;
      },
    ],
    [
      'frame not a number',
      (_, frames) => {
        frames.offset[2] = Number.NaN;
      },
    ],
    [
      'frame beyond integers',
      (_, frames) => {
        frames.offset[frames.count - 1] = 2 ** 60;
      },
    ],
    [
      'frame empty',
      (_, frames) => {
        frames.size[2] = 0;
      },
    ],
    [
      'codec',
      (_, frames) => {
        frames.codec[2] = 9;
      },
    ],
  ];
  checkTables(ledgerOf(blob));
  for (const [what, change] of cases) {
    assert.throws(() => checkTables(ledgerOf(changed(blob, change))), { code: 'corrupt' }, what);
  }
});

test('16,384 chunks merge in a few milliseconds', () => {
  const { blob } = makeSample('large', 16_384, 300);
  const a = ledgerOf(partOf(blob, (chunk) => chunk % 3 !== 0));
  const b = ledgerOf(partOf(blob, (chunk) => chunk % 3 !== 1));
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 10; round++) {
    const start = performance.now();
    const merged = mergeLedgers(a, b)!;
    best = Math.min(best, performance.now() - start);
    assert.equal(merged.chunks.count, 16_384);
  }
  assert.ok(best < 30, `${best} ms`);
});

test('the file gives back what was put in', () => {
  for (const algorithm of ['sha256', 'blake3'] as const) {
    for (const count of [0, 1, 7, 200]) {
      const ledger = ledgerOf(makeSample(`file ${count}`, count, 9000, algorithm).blob);
      const bytes = encodeLedger({ ino: 2 ** 50 + 1, variant: 3, ledger });
      const shifted = new Uint8Array(bytes.length + 3);
      shifted.set(bytes, 3);
      for (const file of [bytes, shifted.subarray(3)]) {
        const stored = decodeLedger(file);
        assert.equal(stored.ino, 2 ** 50 + 1);
        assert.equal(stored.variant, 3);
        assertSame(stored.ledger, ledger);
      }
    }
  }
});

test('a file that was cut or has one wrong bit is refused', () => {
  const bytes = encodeLedger({ ino: 1, variant: 1, ledger: ledgerOf(makeSample('damaged', 20).blob) });
  const refused = (file: Uint8Array) =>
    assert.throws(
      () => decodeLedger(file),
      (error) => error instanceof NymphError && error.code === 'corrupt',
    );
  for (let length = 0; length < bytes.length; length++) refused(bytes.slice(0, length));
  for (let at = 0; at < bytes.length; at++) {
    const flipped = Uint8Array.from(bytes);
    flipped[at] ^= 1 << (at % 8);
    refused(flipped);
  }
  refused(Uint8Array.from([...bytes, 0]));
});

test('numbers that are not exact are refused', () => {
  const { blob } = makeSample('numbers', 3);
  for (const [at, field] of [
    [16, /inode number at byte 16/],
    [24, /size at byte 24/],
  ] as const) {
    const bytes = Uint8Array.from(encodeLedger({ ino: 7, variant: 1, ledger: ledgerOf(blob) }));
    bytes.fill(0xff, at, at + 8);
    bytes.set(digestOf('blake3', bytes.subarray(0, -32)), bytes.length - 32);
    assert.throws(() => decodeLedger(bytes), { code: 'corrupt', message: field });
  }
});
