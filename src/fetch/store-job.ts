/** The store job: decode, verify, write, then set the bits. */
import { writeSync } from 'node:fs';
import { attachReadyMap, type ReadyMap, setReady } from '../cache/ready-map.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import { decodeFrame } from '../codec/frame.ts';
import { startsProgram } from '../formats/elf.ts';
import type { DigestAlgorithm } from '../image/image.ts';
import type { JobResult } from '../threads/job.ts';
import type { FrameResult, StoreChunk, StoreFrame, StoreJob } from './store-types.ts';

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
  const wrong = frame.chunks.map((chunk) => whyWrong(job.digestAlgorithm, chunk, decoded));
  const reason = wrong.find((why) => why !== undefined);
  // Each chunk counts for itself: what another image says of the rest of the frame must not keep it from its readers.
  const right = frame.chunks.filter((_, i) => wrong[i] === undefined);
  try {
    for (const chunk of right) write(job.fd, bytesOf(chunk, decoded), chunk.offset);
  } catch (error) {
    if (reason !== undefined) return { type: 'bad', reason };
    return {
      type: 'loose',
      reason: (error as Error).message,
      chunks: frame.chunks.map((chunk) => new Uint8Array(bytesOf(chunk, decoded))),
    };
  }
  for (const chunk of right) setReady(ready, chunk.offset, chunk.size);
  if (reason !== undefined) return { type: 'bad', reason };
  const programs = frame.chunks
    .filter((chunk) => startsProgram(decoded.subarray(chunk.frameOffset)))
    .map((chunk) => chunk.offset);
  return { type: 'stored', programs };
}

function bytesOf(chunk: StoreChunk, decoded: Uint8Array): Uint8Array {
  return decoded.subarray(chunk.frameOffset, chunk.frameOffset + chunk.size);
}

/** Undefined if the chunk is what its digest says. */
function whyWrong(algorithm: DigestAlgorithm, chunk: StoreChunk, decoded: Uint8Array): string | undefined {
  const bytes = bytesOf(chunk, decoded);
  if (bytes.length !== chunk.size) return `chunk at ${chunk.offset} lies outside its frame`;
  if (digestEquals(chunk.digest, 0, digestOf(algorithm, bytes))) return undefined;
  return `chunk at ${chunk.offset} has another ${algorithm} digest`;
}

function write(fd: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, offset + done);
}
