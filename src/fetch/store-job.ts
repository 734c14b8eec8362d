/** The store job: decode, verify, write, then set the bits. */
import { writeSync } from 'node:fs';
import { attachReadyMap, type ReadyMap, setReady } from '../cache/ready-map.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import { decodeFrame } from '../codec/frame.ts';
import { startsProgram } from '../formats/elf.ts';
import type { DigestAlgorithm } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';
import type { FrameResult, StoreFrame, StoreJob } from './store-types.ts';

export function run(job: StoreJob): JobResult<FrameResult[]> {
  const ready = attachReadyMap(job.ready);
  const output = job.frames.map((frame) => store(job, frame, ready));
  const loose = output.flatMap((result) => (result.type === 'loose' ? result.chunks : []));
  return { output, transfer: loose.map((chunk) => chunk.buffer) };
}

function store(job: StoreJob, frame: StoreFrame, ready: ReadyMap): FrameResult {
  let decoded: Uint8Array;
  try {
    decoded = decodeFrame(frame.codec, new Uint8Array(job.stored, frame.at, frame.size), frame.decodedSize);
  } catch (error) {
    return { type: 'bad', reason: (error as Error).message };
  }
  const bad = firstBad(job.digestAlgorithm, frame, decoded);
  if (bad !== undefined) return { type: 'bad', reason: bad };
  try {
    for (const chunk of frame.chunks)
      write(job.fd, decoded.subarray(chunk.frameOffset, chunk.frameOffset + chunk.size), chunk.offset);
  } catch (error) {
    return {
      type: 'loose',
      reason: (error as Error).message,
      chunks: frame.chunks.map(
        (chunk) => new Uint8Array(decoded.subarray(chunk.frameOffset, chunk.frameOffset + chunk.size)),
      ),
    };
  }
  for (const chunk of frame.chunks) setReady(ready, chunk.offset, chunk.size);
  const programs = frame.chunks
    .filter((chunk) => startsProgram(decoded.subarray(chunk.frameOffset)))
    .map((chunk) => chunk.offset);
  return { type: 'stored', programs };
}

function firstBad(algorithm: DigestAlgorithm, frame: StoreFrame, decoded: Uint8Array): string | undefined {
  for (const chunk of frame.chunks) {
    const bytes = decoded.subarray(chunk.frameOffset, chunk.frameOffset + chunk.size);
    if (bytes.length !== chunk.size) return `chunk at ${chunk.offset} lies outside its frame`;
    if (!digestEquals(chunk.digest, 0, digestOf(algorithm, bytes)))
      return `chunk at ${chunk.offset} has another ${algorithm} digest`;
  }
  return undefined;
}

function write(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
