import { corrupt } from '../../errors.ts';
import { BLOCK_SIZE } from '../../image/image.ts';
import type { BlobEntry } from './blob-table.ts';
import { unsupported } from './flags.ts';
import { CHUNK_RECORD_SIZE, type RafsSuperBlock } from './super-block.ts';

/** The chunk table's records of one blob, ascending by chunk index, and so by uncompressed offset. */
export interface BlobRecords {
  readonly blob: BlobEntry;
  /** The bootstrap that holds the records. */
  readonly view: DataView;
  readonly count: number;
  /** Byte offset of each record. */
  readonly at: Uint32Array;
  /** Index of the chunk in the blob (in its chunk information array). */
  readonly index: Uint32Array;
  /** Where the chunk starts in the uncompressed blob, in blocks, and its size in bytes. */
  readonly block: Uint32Array;
  readonly size: Uint32Array;
}

/** Fields of a record, byte offsets (RAFS "chunk info", 80 bytes). The digest is at 0. */
export const RECORD = {
  blobIndex: 32,
  flags: 36,
  compressedSize: 40,
  uncompressedSize: 44,
  compressedOffset: 48,
  uncompressedOffset: 56,
  index: 72,
} as const;

const STRUCTURE = 'RAFS chunk table';
/** Sort keys are index × RECORD_LIMIT + record: exact, because 2^24 × 2^25 is below 2^53. */
const RECORD_LIMIT = 2 ** 25;
const INDEX_LIMIT = 2 ** 24;

/**
 * Sorts the chunk table by blob and place, and checks that chunks are inside their blob and do not overlap.
 * @returns one entry for each blob, in the order of the blob table
 * @throws NymphError `corrupt`
 */
export function readChunkRecords(
  view: DataView,
  superBlock: RafsSuperBlock,
  blobs: readonly BlobEntry[],
): BlobRecords[] {
  const { offset, size } = superBlock.chunkTable;
  const total = size / CHUNK_RECORD_SIZE;
  if (total === 0 && blobs.some((blob) => blob.chunkCount > 0)) {
    throw unsupported('RAFS image without a chunk table: its chunks have no digests, so nothing of it can be verified');
  }
  const counts = new Uint32Array(blobs.length);
  for (let at = offset; at < offset + size; at += CHUNK_RECORD_SIZE) {
    const blob = view.getUint32(at + RECORD.blobIndex, true);
    if (blob >= blobs.length)
      throw corrupt(STRUCTURE, 'blob_index', at + RECORD.blobIndex, `${blob} of ${blobs.length}`);
    counts[blob]++;
  }
  const keys = blobs.map((_, i) => new Float64Array(counts[i]));
  for (let record = total - 1; record >= 0; record--) {
    const at = offset + record * CHUNK_RECORD_SIZE;
    const index = view.getUint32(at + RECORD.index, true);
    if (index >= INDEX_LIMIT) throw corrupt(STRUCTURE, 'index', at + RECORD.index, `${index} is not below 2^24`);
    const blob = view.getUint32(at + RECORD.blobIndex, true);
    keys[blob][--counts[blob]] = index * RECORD_LIMIT + record;
  }
  return blobs.map((blob, i) => sortRecords(view, offset, superBlock.chunkSize, blob, keys[i].sort()));
}

function sortRecords(
  view: DataView,
  tableOffset: number,
  chunkSize: number,
  blob: BlobEntry,
  keys: Float64Array,
): BlobRecords {
  const count = keys.length;
  const records: BlobRecords = {
    blob,
    view,
    count,
    at: new Uint32Array(count),
    index: new Uint32Array(count),
    block: new Uint32Array(count),
    size: new Uint32Array(count),
  };
  let free = 0;
  for (let i = 0; i < count; i++) {
    const at = tableOffset + (keys[i] % RECORD_LIMIT) * CHUNK_RECORD_SIZE;
    const low = view.getUint32(at + RECORD.uncompressedOffset, true);
    const start = view.getUint32(at + RECORD.uncompressedOffset + 4, true) * 0x1_0000_0000 + low;
    const size = view.getUint32(at + RECORD.uncompressedSize, true);
    if (size === 0 || size > chunkSize) {
      throw corrupt(STRUCTURE, 'uncompressed_size', at + RECORD.uncompressedSize, `${size}, of at most ${chunkSize}`);
    }
    if (low % BLOCK_SIZE !== 0 || start < free || start + size > blob.uncompressedSize) {
      const why = `chunk at ${start} with ${size} bytes: not aligned, overlapping, out of order or outside its blob`;
      throw corrupt(STRUCTURE, 'uncompressed_offset', at + RECORD.uncompressedOffset, why);
    }
    free = start + Math.ceil(size / BLOCK_SIZE) * BLOCK_SIZE;
    records.at[i] = at;
    records.index[i] = Math.floor(keys[i] / RECORD_LIMIT);
    records.block[i] = start / BLOCK_SIZE;
    records.size[i] = size;
  }
  return records;
}

/** Position of the record of chunk `index`, or -1. Binary search. */
export function findRecord(records: BlobRecords, index: number): number {
  let low = 0;
  let high = records.count;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (records.index[middle] < index) low = middle + 1;
    else high = middle;
  }
  return low < records.count && records.index[low] === index ? low : -1;
}
