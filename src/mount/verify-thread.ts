/** Reads the chunks of one blob that are here and checks their digests, off the thread that answers faults. */
import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';
import { attachReadyMap, isReady } from '../cache/ready-map.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import type { ChunkTable, DigestAlgorithm } from '../image/image.ts';

export interface VerifyThreadData {
  fd: number;
  ready: SharedArrayBuffer;
  digestAlgorithm: DigestAlgorithm;
  chunks: ChunkTable;
}

/** Indexes of chunks that are wrong, and of those that are not here; bytes read so far. */
export type VerifyThreadMessage =
  | { type: 'progress'; bytes: number }
  | { type: 'done'; bytes: number; good: number; wrong: number[]; absent: number[] };

const PROGRESS_BYTES = 16 << 20;

const { fd, ready, digestAlgorithm, chunks } = workerData as VerifyThreadData;
const map = attachReadyMap(ready);
const send = (message: VerifyThreadMessage) => parentPort!.postMessage(message);
const wrong: number[] = [];
const absent: number[] = [];
let bytes = 0;
let good = 0;
let told = 0;
let buffer = Buffer.allocUnsafe(1 << 20);

for (let i = 0; i < chunks.count; i++) {
  const size = chunks.size[i];
  if (!isReady(map, chunks.offset[i], size)) {
    absent.push(i);
    continue;
  }
  if (buffer.length < size) buffer = Buffer.allocUnsafe(size);
  const got = readChunk(chunks.offset[i], size);
  bytes += size;
  if (got === size && digestEquals(chunks.digest, i, digestOf(digestAlgorithm, buffer.subarray(0, size)))) good++;
  else wrong.push(i);
  if (bytes - told >= PROGRESS_BYTES) {
    told = bytes;
    send({ type: 'progress', bytes });
  }
}
send({ type: 'done', bytes, good, wrong, absent });

/** Bytes read; fewer if the file ends early or the disk refuses, which makes the chunk a wrong one. */
function readChunk(offset: number, size: number): number {
  try {
    return readSync(fd, buffer, 0, size, offset);
  } catch {
    return 0;
  }
}
