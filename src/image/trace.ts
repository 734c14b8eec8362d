import { BLOCK_SIZE, type BlobRange, wholeBlocks } from './image.ts';

/**
 * A trace: what was read first of an image, in that order. As a text it is what caches keep and registries hand on, so
 * anybody may have written it. It can name nothing but ranges of the image's own blobs: a wrong one costs bytes.
 *
 * The text is a list of `<blob>:<block>+<blocks>`, spaces between: index in the device table, and blocks of 4 KiB.
 */
export type Trace = readonly BlobRange[];

/** Far more than a start reads one by one. */
const MOST_RANGES = 65_536;
/** Uncompressed bytes. Who wants more of an image before it is read wants all of it. */
const MOST_BYTES = 1 << 30;
const RANGE = /^(\d{1,4}):(\d{1,10})\+(\d{1,7})$/;

export function formatTrace(trace: Trace): string {
  return trace
    .map(({ blob, offset, length }) => `${blob}:${Math.floor(offset / BLOCK_SIZE)}+${blocksOf(offset, length)}`)
    .join(' ');
}

function blocksOf(offset: number, length: number): number {
  return wholeBlocks(offset + length) / BLOCK_SIZE - Math.floor(offset / BLOCK_SIZE);
}

/**
 * @param sizes of the image's blobs, bytes
 * @returns what of it lies in the image, up to a limit; nothing of a text that is no trace
 */
export function parseTrace(text: string, sizes: readonly number[]): BlobRange[] {
  const trace: BlobRange[] = [];
  let left = MOST_BYTES;
  for (const item of text.split(' ', MOST_RANGES)) {
    const match = RANGE.exec(item);
    if (match === null) return [];
    const blob = Number(match[1]);
    const offset = Number(match[2]) * BLOCK_SIZE;
    const length = Math.min(Number(match[3]) * BLOCK_SIZE, (sizes[blob] ?? 0) - offset);
    if (length <= 0) continue;
    left -= length;
    if (left < 0) break;
    trace.push({ blob, offset, length });
  }
  return trace;
}
