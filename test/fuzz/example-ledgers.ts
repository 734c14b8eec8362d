/** Ledgers of small blobs: plain, with a key, with contexts; and others of the same blobs. */
import type { Ledger } from '../../src/cache/ledger.ts';

/** @param uses which of six chunks */
function plain(uses: readonly number[]): Ledger {
  const count = uses.length;
  return {
    ...{
      id: 'ab'.repeat(32),
      digest: `sha256:${'cd'.repeat(32)}`,
      digestAlgorithm: 'sha256',
      size: 6 * 8192,
      dictionarySize: 0,
    },
    chunks: {
      count,
      offset: Float64Array.from(uses, (i) => i * 8192),
      size: Uint32Array.from(uses, (i) => 5000 + i),
      digest: Buffer.concat(uses.map((i) => Buffer.alloc(32, i + 1))),
      frame: Uint32Array.from(uses, (_, i) => i),
      frameOffset: new Uint32Array(count),
    },
    frames: {
      count,
      offset: Float64Array.from(uses, (i) => i * 3000),
      size: Uint32Array.from(uses, (i) => 2000 + i),
      decodedSize: Uint32Array.from(uses, (i) => 5000 + i),
      codec: new Uint8Array(count).fill(3),
    },
  };
}

function withContexts(uses: readonly number[]): Ledger {
  const ledger = plain(uses);
  const count = uses.length;
  return {
    ...ledger,
    dictionarySize: count * 100,
    frames: {
      ...ledger.frames,
      size: Uint32Array.from(uses, () => 3500),
      codec: new Uint8Array(count).fill(2),
      contexts: {
        bits: Uint8Array.from(uses, (i) => i % 8),
        value: Uint8Array.from(uses, (i) => (i % 8 === 0 ? 0 : 1)),
        dictionaryOffset: Float64Array.from(uses, (_, i) => i * 100),
        dictionarySize: new Uint32Array(count).fill(100),
        dictionaryDigest: Buffer.concat(uses.map((i) => Buffer.alloc(32, i + 9))),
      },
    },
  };
}

export function exampleLedgers(): Ledger[] {
  const cipher = { key: Buffer.alloc(32, 'k').fill('K', 16), iv: Buffer.alloc(16, 5) };
  return [
    plain([0, 1, 2, 5]),
    plain([1, 3, 4]),
    plain([]),
    { ...plain([0, 2]), cipher },
    { ...plain([2, 3]), cipher },
    withContexts([0, 1, 3]),
    withContexts([1, 2, 3, 4]),
  ];
}
