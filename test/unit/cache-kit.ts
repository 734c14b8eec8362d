import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { Cache, CachedBlob, StoredImage } from '../../src/cache/cache.ts';
import type { Log } from '../../src/cache/health.ts';
import { isReady, setReady } from '../../src/cache/ready-map.ts';
import { digestOf } from '../../src/codec/digest.ts';
import { BLOCK_SIZE, type Blob, type DigestAlgorithm, type OciDigest } from '../../src/image/image.ts';

/** A blob and the bytes that its chunks have; blocks without a chunk are zero. */
export interface Sample {
  blob: Blob;
  content: Uint8Array;
}

export const hexId = (name: string) => createHash('sha256').update(name).digest('hex');
export const ociDigest = (name: string): OciDigest => `sha256:${hexId(name)}`;

/** Random chunks of up to `maxChunk` bytes with gaps between some; each chunk is a frame, every fifth pair a batch. */
export function makeSample(
  name: string,
  count: number,
  maxChunk = 20_000,
  algorithm: DigestAlgorithm = 'sha256',
): Sample {
  const sizes = Array.from({ length: count }, () => 1 + Math.floor(Math.random() * maxChunk));
  const offsets: number[] = [];
  let end = 0;
  for (const size of sizes) {
    if (Math.random() < 0.2) end += BLOCK_SIZE;
    offsets.push(end);
    end = Math.ceil((end + size) / BLOCK_SIZE) * BLOCK_SIZE;
  }
  const content = new Uint8Array(end);
  const digest = new Uint8Array(count * 32);
  const frames = { offset: [] as number[], size: [] as number[], decodedSize: [] as number[] };
  const frame = new Uint32Array(count);
  const frameOffset = new Uint32Array(count);
  let stored = 0;
  for (let i = 0; i < count; i++) {
    const bytes = randomBytes(sizes[i]);
    content.set(bytes, offsets[i]);
    digest.set(digestOf(algorithm, bytes), i * 32);
    if (i % 5 === 1) {
      frame[i] = frames.offset.length - 1;
      frameOffset[i] = frames.decodedSize[frame[i]];
      frames.decodedSize[frame[i]] += sizes[i];
      continue;
    }
    frame[i] = frames.offset.length;
    frames.offset.push(stored);
    frames.size.push(sizes[i]);
    frames.decodedSize.push(sizes[i]);
    stored += sizes[i];
  }
  const blob: Blob = {
    id: hexId(name),
    digest: ociDigest(`${name} stored`),
    size: end,
    storedSize: stored,
    digestAlgorithm: algorithm,
    chunks: { count, offset: Float64Array.from(offsets), size: Uint32Array.from(sizes), digest, frame, frameOffset },
    frames: {
      count: frames.offset.length,
      offset: Float64Array.from(frames.offset),
      size: Uint32Array.from(frames.size),
      decodedSize: Uint32Array.from(frames.decodedSize),
      codec: new Uint8Array(frames.offset.length).fill(3),
    },
  };
  return { blob, content };
}

/** The same blob as an image sees it that uses only some of the chunks. */
export function partOf(blob: Blob, uses: (chunk: number) => boolean): Blob {
  const chosen = Array.from({ length: blob.chunks.count }, (_, i) => i).filter(uses);
  const used = [...new Set(chosen.map((i) => blob.chunks.frame[i]))];
  const digest = new Uint8Array(chosen.length * 32);
  chosen.forEach((from, to) => {
    digest.set(blob.chunks.digest.subarray(from * 32, from * 32 + 32), to * 32);
  });
  return {
    ...blob,
    chunks: {
      count: chosen.length,
      offset: Float64Array.from(chosen, (i) => blob.chunks.offset[i]),
      size: Uint32Array.from(chosen, (i) => blob.chunks.size[i]),
      digest,
      frame: Uint32Array.from(chosen, (i) => used.indexOf(blob.chunks.frame[i])),
      frameOffset: Uint32Array.from(chosen, (i) => blob.chunks.frameOffset[i]),
    },
    frames: {
      count: used.length,
      offset: Float64Array.from(used, (i) => blob.frames.offset[i]),
      size: Uint32Array.from(used, (i) => blob.frames.size[i]),
      decodedSize: Uint32Array.from(used, (i) => blob.frames.decodedSize[i]),
      codec: Uint8Array.from(used, (i) => blob.frames.codec[i]),
    },
  };
}

/** Another blob with the same id and other bytes in one chunk: what an attacker would publish. */
export function contradict(blob: Blob, chunk: number): Blob {
  const digest = Uint8Array.from(blob.chunks.digest);
  digest[chunk * 32] ^= 1;
  return { ...blob, chunks: { ...blob.chunks, digest } };
}

/** What a fetch does: data, then bits, then the word to the cache. */
export function store(cache: Cache, cached: CachedBlob, { content }: Sample, index: number): void {
  const { offset, size } = { offset: cached.chunks.offset[index], size: cached.chunks.size[index] };
  writeSync(cached.fd, content, offset, size, offset);
  setReady(cached.ready, offset, size);
  cache.changed(cached);
}

export function readyChunks(cached: CachedBlob): number[] {
  const { chunks } = cached;
  const all = Array.from({ length: chunks.count }, (_, i) => i);
  return all.filter((i) => isReady(cached.ready, chunks.offset[i], chunks.size[i]));
}

/** The promise of the cache: a block that is ready has the right bytes, and belongs to a chunk. */
export function assertNothingWrong(cached: CachedBlob, content: Uint8Array, context: string): void {
  const covered = new Set<number>();
  for (let i = 0; i < cached.chunks.count; i++) {
    const last = Math.floor((cached.chunks.offset[i] + cached.chunks.size[i] - 1) / BLOCK_SIZE);
    for (let block = cached.chunks.offset[i] / BLOCK_SIZE; block <= last; block++) covered.add(block);
  }
  const bytes = Buffer.alloc(BLOCK_SIZE);
  for (let block = 0; block < cached.ready.blocks; block++) {
    const at = block * BLOCK_SIZE;
    if (!isReady(cached.ready, at, BLOCK_SIZE)) continue;
    assert.ok(covered.has(block), `${context}: block ${block} is ready and belongs to no chunk`);
    bytes.fill(0xff);
    readSync(cached.fd, bytes, 0, BLOCK_SIZE, at);
    assert.ok(bytes.equals(content.subarray(at, at + BLOCK_SIZE)), `${context}: block ${block} is ready and wrong`);
  }
}

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'nymph-cache-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

export function recordLog(): { log: Log; lines: string[] } {
  const lines: string[] = [];
  return { lines, log: (level, message, fields) => lines.push(`${level}: ${message} ${JSON.stringify(fields ?? {})}`) };
}

export function storedImage(name: string, blobs: CachedBlob[]): StoredImage {
  return {
    digest: ociDigest(name),
    reference: `registry.example/${name}:latest`,
    format: 'rafs-v6',
    inodes: 3,
    chunkSize: 1024 * 1024,
    blobs: blobs.map(({ key, id, digest, size }) => ({ key, id, digest, size, storedSize: size })),
    prefetch: [],
    verifiable: true,
  };
}

export async function until(condition: () => boolean, milliseconds = 5000): Promise<void> {
  const end = Date.now() + milliseconds;
  while (!condition()) {
    assert.ok(Date.now() < end, 'did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
