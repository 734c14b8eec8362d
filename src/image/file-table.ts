import type { BlobRange } from './image.ts';

/** Some files of an image by where they begin: a row each, ascending by blob and offset. An object each would not fit. */
export interface FileTable {
  /** Index into the image's blobs. */
  blob: Uint16Array;
  /** Where the file begins in the blob. */
  offset: Float64Array;
  /** Bytes of the file in the blob. */
  size: Uint32Array;
}

/** @param files ascending by blob and offset */
export function fileTable(files: readonly BlobRange[]): FileTable {
  return {
    blob: Uint16Array.from(files, ({ blob }) => blob),
    offset: Float64Array.from(files, ({ offset }) => offset),
    size: Uint32Array.from(files, ({ length }) => length),
  };
}

export function byPlace(a: BlobRange, b: BlobRange): number {
  return a.blob - b.blob || a.offset - b.offset;
}

/** @returns the row of the file that begins at `offset`, or -1 */
export function fileAt({ blob, offset }: FileTable, ofBlob: number, at: number): number {
  const row = lowest(offset.length, (i) => blob[i] > ofBlob || (blob[i] === ofBlob && offset[i] >= at));
  return row < offset.length && blob[row] === ofBlob && offset[row] === at ? row : -1;
}

/** Binary search. @returns the lowest of `count` for which `isBehind` holds, or `count` */
export function lowest(count: number, isBehind: (i: number) => boolean): number {
  let low = 0;
  let high = count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isBehind(middle)) high = middle;
    else low = middle + 1;
  }
  return low;
}
