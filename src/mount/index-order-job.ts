/** The index-order job: an index of shards has up to tens of MB, which takes 100 ms to parse. */
import { indexOrder } from '../formats/weights/index-order.ts';
import type { JobResult } from '../threads/job.ts';

/** @param bytes the file */
export function run(bytes: Uint8Array): JobResult<string[]> {
  return { output: indexOrder(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString()) };
}
