import { corrupt } from '../../../errors.ts';
import { BLOCK_SIZE, type Codec, type DigestAlgorithm } from '../../../image/image.ts';
import type { BlobEntry } from '../blob-table.ts';
import { type BlobRecords, RECORD } from '../chunk-records.ts';
import { BLOB_ALIGNED, unsupported } from '../flags.ts';
import { CHUNK_RECORD_SIZE } from '../super-block.ts';
import { type BlobV5, MAX_CHUNKS, MAX_UNCOMPRESSED_SIZE } from './blob-table.ts';
import { createChunkCheck, FILE_OFFSET, isHole, STRUCTURE, startOf } from './chunk-record.ts';
import type { FileV5 } from './tree.ts';

/** The chunks of an image, by blob. */
export interface ChunksV5 {
  /** Blobs that a file has chunks in, in the order of the blob table: the devices of the translated image. */
  records: BlobRecords[];
  /** Where the chunk of a record is: device, and position in its records; undefined for a hole. */
  find(recordAt: number): { device: number; chunk: number } | undefined;
}

export interface BlobDefaults {
  chunkSize: number;
  compressor: Codec;
  digester: DigestAlgorithm;
}

const CRC = 76;

/** Records of one blob by uncompressed offset, each chunk once. */
interface Sorted {
  at: Uint32Array;
  start: Float64Array;
  count: number;
}

/**
 * Collects the chunks of all files, checks them, and gives each a place in the address space that we serve.
 *
 * Chunks of v5 blobs stand one behind the other, mostly not at multiples of a block. Where the builder aligned them,
 * the place is the uncompressed offset itself. Otherwise it is the offset rounded down, and one block further for each
 * chunk before: no two chunks meet in a block, and images that use other chunks of the same blob agree. This needs the
 * chunk's index in the blob; where the indexes do not number the chunks in their order (as the first builders left
 * them), the chunks of this image are numbered instead.
 * @throws NymphError `corrupt` or `unsupported`
 */
export function collectChunks(
  view: DataView,
  blobs: readonly BlobV5[],
  files: readonly FileV5[],
  defaults: BlobDefaults,
): ChunksV5 {
  const counts = new Uint32Array(blobs.length);
  const check = createChunkCheck(view, blobs, defaults);
  eachRecord(files, (at, file, k) => {
    const blob = check(at, file, k);
    if (blob >= 0) counts[blob]++;
  });
  const found = blobs.map((_, i) => new Uint32Array(counts[i]));
  counts.fill(0);
  eachRecord(files, (at) => {
    if (isHole(view, at)) return;
    const blob = view.getUint32(at + RECORD.blobIndex, true);
    found[blob][counts[blob]++] = at;
  });
  const devices = new Int32Array(blobs.length).fill(-1);
  const records: BlobRecords[] = [];
  const starts: Float64Array[] = [];
  for (const [i, blob] of blobs.entries()) {
    if (found[i].length === 0) continue;
    devices[i] = records.length;
    const sorted = sortRecords(view, found[i]);
    starts.push(sorted.start);
    records.push(placeChunks(view, blob, records.length, sorted, defaults));
  }
  return {
    records,
    find(at) {
      if (isHole(view, at)) return undefined;
      const device = devices[view.getUint32(at + RECORD.blobIndex, true)];
      return { device, chunk: findStart(starts[device], records[device].count, startOf(view, at)) };
    },
  };
}

function eachRecord(files: readonly FileV5[], visit: (at: number, file: FileV5, k: number) => void): void {
  for (const file of files) {
    for (let k = 0; k < file.count; k++) visit(file.at + k * CHUNK_RECORD_SIZE, file, k);
  }
}

/** Files share chunks: each once, by place. Two records of one place must say the same. */
function sortRecords(view: DataView, at: Uint32Array): Sorted {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const starts = Float64Array.from(at, (record) => startOf(view, record));
  const order = Uint32Array.from(at, (_, i) => i);
  let ascending = true;
  for (let i = 1; i < starts.length; i++) if (starts[i] < starts[i - 1]) ascending = false;
  if (!ascending) order.sort((a, b) => starts[a] - starts[b]);
  const sorted: Sorted = { at: new Uint32Array(at.length), start: new Float64Array(at.length), count: 0 };
  let free = 0;
  for (const i of order) {
    const last = sorted.count - 1;
    if (last >= 0 && sorted.start[last] === starts[i]) {
      const [one, other] = [sorted.at[last], at[i]];
      const same =
        bytes.compare(bytes, one, one + FILE_OFFSET, other, other + FILE_OFFSET) === 0 &&
        bytes.compare(bytes, one + RECORD.index, one + CRC, other + RECORD.index, other + CRC) === 0;
      if (same) continue;
      const why = `the chunk at ${starts[i]} of the blob is another one at byte ${one}`;
      throw corrupt(STRUCTURE, 'uncompressed_offset', other + RECORD.uncompressedOffset, why);
    }
    if (starts[i] < free) {
      const why = `the chunk at ${starts[i]} of the blob begins before ${free}, where another one ends`;
      throw corrupt(STRUCTURE, 'uncompressed_offset', at[i] + RECORD.uncompressedOffset, why);
    }
    free = starts[i] + view.getUint32(at[i] + RECORD.uncompressedSize, true);
    sorted.at[sorted.count] = at[i];
    sorted.start[sorted.count++] = starts[i];
  }
  if (sorted.count > MAX_CHUNKS) throw unsupported(`RAFS v5 image: more than 2^24 chunks in one blob`);
  return sorted;
}

function placeChunks(
  view: DataView,
  blob: BlobV5,
  device: number,
  { at, start, count }: Sorted,
  { compressor, digester }: BlobDefaults,
): BlobRecords {
  const records: Omit<BlobRecords, 'blob'> = {
    view,
    count,
    at: at.slice(0, count),
    index: new Uint32Array(count),
    block: new Uint32Array(count),
    size: new Uint32Array(count),
  };
  let isNumbered = blob.chunkCount !== undefined && blob.uncompressedSize !== undefined;
  for (let i = 0; i < count; i++) {
    records.size[i] = view.getUint32(at[i] + RECORD.uncompressedSize, true);
    records.index[i] = view.getUint32(at[i] + RECORD.index, true);
    if (i > 0 && records.index[i] <= records.index[i - 1]) isNumbered = false;
  }
  if (count > 0 && records.index[count - 1] >= (blob.chunkCount ?? 0)) isNumbered = false;
  if (!isNumbered) for (let i = 0; i < count; i++) records.index[i] = i;
  const aligned = (blob.features & BLOB_ALIGNED) !== 0;
  for (let i = 0; i < count; i++) {
    records.block[i] = Math.floor(start[i] / BLOCK_SIZE) + (aligned ? 0 : records.index[i]);
  }
  const end = blob.uncompressedSize ?? start[count - 1] + records.size[count - 1];
  const more = aligned ? 0 : isNumbered ? blob.chunkCount! : count;
  const uncompressedSize = (Math.ceil(end / BLOCK_SIZE) + more) * BLOCK_SIZE;
  // Block addresses have 32 bits.
  if (uncompressedSize >= MAX_UNCOMPRESSED_SIZE) throw unsupported(`RAFS v5 blob ${blob.id} is larger than 16 TiB`);
  const entry: BlobEntry = {
    index: device,
    id: blob.id,
    features: blob.features,
    compressor,
    digester,
    chunkCount: blob.chunkCount ?? count,
    compressedSize: blob.dataSize,
    uncompressedSize,
    dataSize: blob.dataSize,
    tocSize: 0,
    tocDigest: new Uint8Array(32),
    chunkInfo: { codec: 'none', offset: 0, compressedSize: 0, uncompressedSize: 0 },
    needsChunkInfo: false,
  };
  return { ...records, blob: entry };
}

/** Position of `start` in ascending starts, of which it is one. Binary search. */
function findStart(starts: Float64Array, count: number, start: number): number {
  let low = 0;
  let high = count - 1;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (starts[middle] < start) low = middle + 1;
    else high = middle;
  }
  return low;
}
