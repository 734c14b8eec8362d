/** Blobs whose frames begin in the midst of a gzip stream, in the cache and through the fetcher. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, type TestContext, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { gzipSync } from 'node:zlib';
import type { Cache, CachedBlob } from '../../src/cache/cache.ts';
import { checkTables, ledgerOf } from '../../src/cache/ledger.ts';
import { decodeLedger, encodeLedger } from '../../src/cache/ledger-file.ts';
import { mergeLedgers } from '../../src/cache/merge-ledgers.ts';
import { openCache } from '../../src/cache/open.ts';
import { createFetcher } from '../../src/fetch/fetcher.ts';
import { DEFAULT_POLICY } from '../../src/fetch/policy.ts';
import type { Blob, FrameTable } from '../../src/image/image.ts';
import { createThreadPool } from '../../src/threads/pool.ts';
import { type Asked, fetchContext, scriptedSource } from '../blob.ts';
import { blobOf, flatContent, makeContexts, type Piece, type ZranStream } from '../zran.ts';
import { partOf, recordLog, temporaryDirectory } from './cache-kit.ts';

const pool = createThreadPool(2);
after(() => pool.close());
const never = new AbortController().signal;

/** A stream of some 400 KB with chunks of up to 20,000 bytes, headers between them, and contexts every 20,000 bytes. */
function sample(): ZranStream {
  const words = Array.from({ length: 500 }, () => randomBytes(5).toString('hex'));
  const text = () => Array.from({ length: 80 }, () => words[Math.floor(Math.random() * 500)]).join(' ');
  const all = Buffer.from(Array.from({ length: 800 }, text).join('\n'));
  const half = Math.floor(all.length / 2);
  const options = { memLevel: 4 };
  const gzip = Buffer.concat([gzipSync(all.subarray(0, half), options), gzipSync(all.subarray(half), options)]);
  const pieces: Piece[] = [];
  for (let at = 512; at < all.length; ) {
    const size = Math.min(1 + Math.floor(Math.random() * 20_000), all.length - at);
    pieces.push({ offset: at, size });
    at += size + 512;
  }
  return makeContexts(gzip, pieces, 20_000);
}

async function cacheFor(t: TestContext, root: string): Promise<Cache> {
  const { log } = recordLog();
  const cache = await openCache(root, { log });
  t.after(() => cache.close());
  return cache;
}

/** The frame table of another builder, which began its contexts elsewhere. */
const moved = (blob: Blob, change: (frames: FrameTable) => void): Blob => {
  const frames = structuredClone(blob.frames);
  change(frames);
  return { ...blob, frames };
};

const read = (cached: CachedBlob) => readFileSync(cached.dataPath);

test('contexts overlap, and a run over neighbours fetches what they share once', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const { frames } = blob;
  assert.ok(frames.count > 5);
  const shared = Array.from(
    { length: frames.count - 1 },
    (_, i) => frames.offset[i] + frames.size[i] - frames.offset[i + 1],
  );
  assert.ok(shared.filter((bytes) => bytes > 0).length > 3, 'neighbours share bytes');
  const cache = await cacheFor(t, temporaryDirectory(t));
  const cached = await cache.open(blob);
  const source = scriptedSource(stream.gzip);
  const fetcher = createFetcher(cached, source, fetchContext(pool));
  await fetcher.need(0, cached.size, never);
  assert.deepEqual(read(cached), flatContent(stream));
  const last = frames.offset[frames.count - 1] + frames.size[frames.count - 1];
  assert.deepEqual(source.asked, [{ offset: frames.offset[0], length: last - frames.offset[0] } satisfies Asked]);
  await fetcher.close();
});

test('a read costs one context, wherever it is', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const cache = await cacheFor(t, temporaryDirectory(t));
  const cached = await cache.open(blob);
  const source = scriptedSource(stream.gzip);
  const fetcher = createFetcher(cached, source, fetchContext(pool));
  const chunk = blob.chunks.count - 1;
  await fetcher.need(blob.chunks.offset[chunk], 1, never);
  const frame = blob.chunks.frame[chunk];
  // Neighbours come along only up to the amplification, which such a context is above.
  const asked = source.asked.map(({ offset, length }) => [offset, length]);
  const context = makeFrame(blob, frame);
  if (context.size > DEFAULT_POLICY.amplify / 2) assert.deepEqual(asked, [[context.offset, context.size]]);
  else assert.ok(asked.length === 1 && asked[0][1] <= DEFAULT_POLICY.amplify + context.size);
  await fetcher.close();
});

const makeFrame = ({ frames }: Blob, frame: number) => ({ offset: frames.offset[frame], size: frames.size[frame] });

test('an entry is opened again with its dictionaries: no image is needed', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const root = temporaryDirectory(t);
  const first = await openCache(root, { log: recordLog().log });
  const { key } = await first.open(blob);
  await first.close();
  const cache = await cacheFor(t, root);
  const cached = await cache.reopen(key);
  assert.ok(cached);
  const fetcher = createFetcher(cached, scriptedSource(stream.gzip), fetchContext(pool));
  await fetcher.need(0, cached.size, never);
  assert.deepEqual(read(cached), flatContent(stream));
  await fetcher.close();
});

test('images that use other contexts of a stream share its entry, dictionaries and all', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const cache = await cacheFor(t, temporaryDirectory(t));
  const some = partOf(blob, (chunk) => blob.chunks.frame[chunk] % 2 === 0);
  const one = await cache.open({ ...some, frames: pickFrames(blob, (frame) => frame % 2 === 0) });
  const other = await cache.open(blob);
  assert.equal(one, other);
  const fetcher = createFetcher(one, scriptedSource(stream.gzip), fetchContext(pool));
  await fetcher.need(0, one.size, never);
  assert.deepEqual(read(one), flatContent(stream));
  await fetcher.close();
});

/** Rows of the frame table, with all dictionaries. */
function pickFrames({ frames }: Blob, uses: (frame: number) => boolean): FrameTable {
  const rows = Array.from({ length: frames.count }, (_, i) => i).filter(uses);
  const contexts = frames.contexts!;
  return {
    count: rows.length,
    offset: Float64Array.from(rows, (i) => frames.offset[i]),
    size: Uint32Array.from(rows, (i) => frames.size[i]),
    decodedSize: Uint32Array.from(rows, (i) => frames.decodedSize[i]),
    codec: Uint8Array.from(rows, (i) => frames.codec[i]),
    contexts: {
      bits: Uint8Array.from(rows, (i) => contexts.bits[i]),
      value: Uint8Array.from(rows, (i) => contexts.value[i]),
      dictionaryOffset: Float64Array.from(rows, (i) => contexts.dictionaryOffset[i]),
      dictionarySize: Uint32Array.from(rows, (i) => contexts.dictionarySize[i]),
      dictionaryDigest: Uint8Array.from(
        rows.flatMap((i) => [...contexts.dictionaryDigest.subarray(i * 32, i * 32 + 32)]),
      ),
    },
  };
}

test('images that contradict each other about a context do not share an entry', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const cache = await cacheFor(t, temporaryDirectory(t));
  const right = await cache.open(blob);
  const lies: Record<string, (frames: FrameTable) => void> = {
    bits: (frames) => {
      frames.contexts!.bits[2] = (frames.contexts!.bits[2] + 1) % 8;
      frames.contexts!.value[2] = 0;
    },
    dictionary: (frames) => {
      frames.contexts!.dictionaryDigest[2 * 32] ^= 1;
    },
    'dictionary size': (frames) => {
      frames.contexts!.dictionarySize[2]--;
    },
    size: (frames) => {
      frames.size[2]--;
    },
    // Frames elsewhere may lie over the first image's; chunks in them contradict its chunks.
    place: (frames) => {
      frames.offset[2]++;
      frames.size[2]--;
    },
  };
  for (const [what, lie] of Object.entries(lies)) {
    const other = moved(blob, lie);
    assert.equal(mergeLedgers(ledgerOf(blob), ledgerOf(other)), undefined, what);
    const opened = await cache.open(other);
    assert.notEqual(opened.key, right.key, what);
  }
  const { contexts: _, ...plain } = blob.frames;
  assert.equal(mergeLedgers(ledgerOf(blob), ledgerOf({ ...blob, frames: plain })), undefined, 'no contexts');
});

test('keys are kept, and blobs with other keys do not share an entry', () => {
  const blob = blobOf(sample());
  const cipher = { key: randomBytes(32), iv: randomBytes(16) };
  const encrypted = ledgerOf({ ...blob, cipher });
  assert.equal(mergeLedgers(encrypted, ledgerOf(blob)), undefined);
  assert.equal(mergeLedgers(ledgerOf(blob), encrypted), undefined);
  for (const other of [
    { ...cipher, key: randomBytes(32) },
    { ...cipher, iv: randomBytes(16) },
  ])
    assert.equal(mergeLedgers(encrypted, ledgerOf({ ...blob, cipher: other })), undefined);
  assert.equal(mergeLedgers(encrypted, ledgerOf({ ...blob, cipher: { ...cipher } })), encrypted);
  const { ledger } = decodeLedger(encodeLedger({ ino: 1 << 20, variant: 1, ledger: encrypted }));
  const { dictionaries, ...kept } = encrypted;
  assert.ok(dictionaries!.length > 0);
  const numbers = (value: unknown): unknown =>
    ArrayBuffer.isView(value)
      ? Array.from(value as Uint8Array)
      : typeof value === 'object' && value !== null
        ? Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, numbers(inner)]))
        : value;
  assert.ok(isDeepStrictEqual(numbers(ledger), numbers(kept)));
});

test('contexts that break their promises are refused', () => {
  const blob = blobOf(sample());
  const changes: Record<string, (frames: FrameTable) => void> = {
    'eight bits': ({ contexts }) => contexts!.bits.fill(8, 1, 2),
    'more than its bits': ({ contexts }) => {
      contexts!.bits[1] = 2;
      contexts!.value[1] = 4;
    },
    'dictionary too long': ({ contexts }) => contexts!.dictionarySize.fill((32 << 10) + 1, 1, 2),
    'dictionary outside': ({ contexts }) => contexts!.dictionaryOffset.fill(2 ** 40, 1, 2),
    'dictionary nowhere': ({ contexts }) => contexts!.dictionaryOffset.fill(Number.NaN, 1, 2),
    'two from the same place': (frames) => frames.offset.copyWithin(1, 2, 3),
    'too many over one byte': (frames) => frames.size.fill(blob.storedSize, 0, 4),
  };
  for (const [what, change] of Object.entries(changes))
    assert.throws(() => checkTables(ledgerOf(moved(blob, change))), { code: 'corrupt' }, what);
  checkTables(ledgerOf(blob));
});

test('a dictionary that the disk has damaged: the entry is discarded when it is opened, and no source is blamed before', async (t) => {
  const stream = sample();
  const blob = blobOf(stream);
  const root = temporaryDirectory(t);
  const first = await openCache(root, { log: recordLog().log });
  const cached = await first.open(blob);
  const file = join(dirname(cached.dataPath), 'dictionaries');
  assert.equal(statSync(file).size, blob.dictionaries!.length);
  const bytes = readFileSync(file);
  const frame = Array.from(blob.frames.contexts!.dictionarySize).findIndex((size) => size > 0);
  bytes[blob.frames.contexts!.dictionaryOffset[frame]] ^= 1;
  writeFileSync(file, bytes);
  const source = scriptedSource(stream.gzip);
  const fetcher = createFetcher(cached, source, fetchContext(pool));
  const chunk = blob.chunks.frame.indexOf(frame);
  await assert.rejects(fetcher.need(blob.chunks.offset[chunk], 1, never), { code: 'cache' });
  assert.deepEqual([source.asked.length, source.distrusted], [1, 0], 'not asked again');
  await fetcher.close();
  await first.close();
  for (const damage of [() => {}, () => truncateSync(file, 10)]) {
    damage();
    const cache = await openCache(root, { log: recordLog().log });
    assert.equal(await cache.reopen(cached.key), undefined);
    const again = await cache.open(blob);
    assert.equal(again.key, cached.key);
    await cache.close();
  }
});
