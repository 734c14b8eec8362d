/** A store thread: decode, verify, write, then set the bits. Synchronous calls are right here: nobody waits for this thread. */
import { writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { attachReadyMap, type ReadyMap, setReady } from '../cache/ready-map.ts';
import { digestEquals, digestOf } from '../codec/digest.ts';
import { decodeFrame } from '../codec/frame.ts';
import { startsProgram } from '../formats/elf.ts';
import type { DigestAlgorithm } from '../image/image.ts';
import type { FrameResult, StoreFrame, StoreJob } from './store-message.ts';

const port = parentPort!;

port.on('message', (job: StoreJob) => {
  const ready = attachReadyMap(job.ready);
  const results = job.frames.map((frame) => store(job, frame, ready));
  const transfer: ArrayBuffer[] = [];
  for (const result of results)
    if (result.type === 'loose') for (const chunk of result.chunks) transfer.push(chunk.buffer);
  port.postMessage(results, transfer);
});

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
