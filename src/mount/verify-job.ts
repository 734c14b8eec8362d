/** The verify job: reads chunks that are in the cache and compares their digests. */
import { readSync } from 'node:fs';
import { attachReadyMap, isReady } from '../cache/ready-map.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import type { DigestAlgorithm } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';

export interface VerifyRequest {
  fd: number;
  ready: SharedArrayBuffer;
  digestAlgorithm: DigestAlgorithm;
  /** Chunks as in a ChunkTable: place, size, 32 bytes of digest each. */
  offset: Float64Array;
  size: Uint32Array;
  digest: Uint8Array;
}

/** Positions in the request of chunks that are wrong, and of those that are not here. */
export interface VerifyOutcome {
  bytes: number;
  good: number;
  wrong: number[];
  absent: number[];
}

let buffer = Buffer.alloc(0);

export function run(request: VerifyRequest): JobResult<VerifyOutcome> {
  const map = attachReadyMap(request.ready);
  const output: VerifyOutcome = { bytes: 0, good: 0, wrong: [], absent: [] };
  for (let i = 0; i < request.offset.length; i++) {
    const offset = request.offset[i];
    const size = request.size[i];
    if (!isReady(map, offset, size)) {
      output.absent.push(i);
      continue;
    }
    if (buffer.length < size) buffer = Buffer.allocUnsafe(size);
    output.bytes += size;
    const whole = readChunk(request.fd, offset, size) === size;
    const digest = whole ? digestOf(request.digestAlgorithm, buffer.subarray(0, size)) : undefined;
    if (digest !== undefined && digestEquals(request.digest, i, digest)) output.good++;
    else output.wrong.push(i);
  }
  return { output };
}

/** Bytes read; fewer if the file ends early or the disk refuses, which makes the chunk a wrong one. */
function readChunk(fd: number, offset: number, size: number): number {
  try {
    return readSync(fd, buffer, 0, size, offset);
  } catch {
    return 0;
  }
}
