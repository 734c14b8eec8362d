import { corrupt, NymphError } from '../../errors.ts';
import { BLOCK_SIZE, type Blob, type ChunkTable, CODECS, type FrameTable, type OciDigest } from '../../image/image.ts';
import { type BatchContext, type ChunkInfo, type ChunkPlace, readBatchContext, readChunkPlace } from './chunk-info.ts';
import { type BlobRecords, RECORD } from './chunk-records.ts';
import { unsupported } from './flags.ts';

const STRUCTURE = 'RAFS chunk table';
const DIGEST_SIZE = 32;
const CHUNK_COMPRESSED = 0x1;
const CHUNK_BATCH = 0x8;
const CHUNK_HAS_CRC = 0x10;
const CHUNK_FLAGS = CHUNK_COMPRESSED | CHUNK_BATCH | CHUNK_HAS_CRC;
const NONE = CODECS.indexOf('none');
const GZIP = CODECS.indexOf('gzip');
/** Header, trailer and the ends of blocks; besides, 5 bytes for each 16 KiB that do not shrink. */
const GZIP_OVERHEAD = 256;

/** Frames while they are collected, in any order. */
interface Frames {
  count: number;
  offset: Float64Array;
  size: Uint32Array;
  decodedSize: Uint32Array;
  codec: Uint8Array;
}

/**
 * Makes the tables of one blob.
 * @param info needed where the blob's `needsChunkInfo` is set
 * @param digest the object that holds the blob's data
 * @throws NymphError `corrupt` or `unsupported`
 */
export function buildBlob(
  chunkSize: number,
  records: BlobRecords,
  info: ChunkInfo | undefined,
  digest: OciDigest,
): Blob {
  const { blob, view, count } = records;
  const frames: Frames = {
    count: 0,
    offset: new Float64Array(count),
    size: new Uint32Array(count),
    decodedSize: new Uint32Array(count),
    codec: new Uint8Array(count),
  };
  const chunks: ChunkTable = {
    count,
    offset: new Float64Array(count),
    size: records.size.slice(),
    digest: copyDigests(view, records),
    frame: new Uint32Array(count),
    frameOffset: new Uint32Array(count),
  };
  for (let i = 0; i < count; i++) chunks.offset[i] = records.block[i] * BLOCK_SIZE;
  if (blob.needsChunkInfo) {
    if (info === undefined) throw new NymphError('internal', `no chunk information was given for blob ${blob.id}`);
    collectBatchFrames(view, records, info, chunkSize, frames, chunks);
  } else {
    for (let i = 0; i < count; i++) chunks.frame[i] = collectFrame(view, records, i, frames);
  }
  return {
    id: blob.id,
    digest,
    size: Math.ceil(blob.uncompressedSize / BLOCK_SIZE) * BLOCK_SIZE,
    storedSize: blob.dataSize,
    digestAlgorithm: blob.digester,
    chunks,
    frames: sortFrames(frames, chunks.frame, blob.dataSize),
  };
}

function copyDigests(view: DataView, records: BlobRecords): Uint8Array {
  const words = new Uint32Array(records.count * (DIGEST_SIZE / 4));
  const target = new DataView(words.buffer);
  for (let i = 0; i < records.count; i++) {
    const at = records.at[i];
    for (let byte = 0; byte < DIGEST_SIZE; byte += 4) {
      target.setUint32(i * DIGEST_SIZE + byte, view.getUint32(at + byte));
    }
  }
  return new Uint8Array(words.buffer);
}

/** The frame of a chunk that is stored alone, from its record. */
function collectFrame(view: DataView, records: BlobRecords, i: number, frames: Frames): number {
  const at = records.at[i];
  const flags = view.getUint32(at + RECORD.flags, true);
  if ((flags & ~CHUNK_FLAGS) !== 0) {
    throw unsupported(`${STRUCTURE}: flags 0x${flags.toString(16)} at byte ${at + RECORD.flags} are not known`);
  }
  const size = view.getUint32(at + RECORD.compressedSize, true);
  const offset =
    view.getUint32(at + RECORD.compressedOffset + 4, true) * 0x1_0000_0000 +
    view.getUint32(at + RECORD.compressedOffset, true);
  let codec = NONE;
  if ((flags & CHUNK_COMPRESSED) !== 0) {
    codec = CODECS.indexOf(records.blob.compressor);
    if (codec === NONE) throw corrupt(STRUCTURE, 'flags', at + RECORD.flags, 'compressed, but the blob is not');
  }
  return addFrame(frames, offset, size, records.size[i], codec, at + RECORD.compressedSize);
}

function addFrame(frames: Frames, offset: number, size: number, decodedSize: number, codec: number, at: number) {
  // Builders keep what does not shrink as it is; a gzip stream is somebody else's, and may have grown.
  const most = codec === GZIP ? decodedSize + GZIP_OVERHEAD + (decodedSize >>> 10) : decodedSize;
  if (size === 0 || size > most || (codec === NONE && size !== decodedSize)) {
    throw corrupt(STRUCTURE, 'compressed_size', at, `${size} bytes for ${decodedSize}`);
  }
  const frame = frames.count++;
  frames.offset[frame] = offset;
  frames.size[frame] = size;
  frames.decodedSize[frame] = decodedSize;
  frames.codec[frame] = codec;
  return frame;
}

/** Frames of a blob with batches: the bootstrap does not say where members of a batch are, the chunk information does. */
function collectBatchFrames(
  view: DataView,
  records: BlobRecords,
  info: ChunkInfo,
  chunkSize: number,
  frames: Frames,
  chunks: ChunkTable,
): void {
  const batches = new Map<number, number>();
  for (let i = 0; i < records.count; i++) {
    const at = records.at[i];
    const place = readChunkPlace(info, records.index[i]);
    if (place.uncompressedOffset !== chunks.offset[i] || place.uncompressedSize !== records.size[i]) {
      throw corrupt(
        STRUCTURE,
        'uncompressed_offset',
        at + RECORD.uncompressedOffset,
        'not as in the chunk information',
      );
    }
    if (place.batch < 0) {
      const frame = collectFrame(view, records, i, frames);
      if (frames.offset[frame] !== place.offset || frames.size[frame] !== place.size) {
        throw corrupt(STRUCTURE, 'compressed_offset', at + RECORD.compressedOffset, 'not as in the chunk information');
      }
      chunks.frame[i] = frame;
      continue;
    }
    const context = readBatchContext(info, place.batch);
    if (context.uncompressedSize > chunkSize || place.batchOffset + place.uncompressedSize > context.uncompressedSize) {
      throw corrupt('RAFS chunk information', 'batch', records.index[i], 'a chunk reaches out of its batch');
    }
    let frame = batches.get(place.batch);
    if (frame === undefined) {
      frame = addBatchFrame(records, place, context, frames, at);
      batches.set(place.batch, frame);
    } else if (frames.offset[frame] !== place.offset) {
      throw corrupt('RAFS chunk information', 'compressed_offset', records.index[i], 'chunks of a batch differ');
    }
    chunks.frame[i] = frame;
    chunks.frameOffset[i] = place.batchOffset;
  }
}

function addBatchFrame(records: BlobRecords, place: ChunkPlace, context: BatchContext, frames: Frames, at: number) {
  const stored = context.compressedSize === context.uncompressedSize;
  const codec = stored ? NONE : CODECS.indexOf(records.blob.compressor);
  return addFrame(frames, place.offset, context.compressedSize, context.uncompressedSize, codec, at);
}

/** Frames by offset, with the chunks' references; checks that they are in the data region and do not overlap. */
function sortFrames(frames: Frames, references: Uint32Array, dataSize: number): FrameTable {
  const { count } = frames;
  const order = new Uint32Array(count);
  let sorted = true;
  for (let i = 0; i < count; i++) {
    order[i] = i;
    if (i > 0 && frames.offset[i] < frames.offset[i - 1]) sorted = false;
  }
  if (!sorted) order.sort((a, b) => frames.offset[a] - frames.offset[b]);
  const table: FrameTable = {
    count,
    offset: frames.offset.slice(0, count),
    size: frames.size.slice(0, count),
    decodedSize: frames.decodedSize.slice(0, count),
    codec: frames.codec.slice(0, count),
  };
  const position = new Uint32Array(count);
  let free = 0;
  for (let i = 0; i < count; i++) {
    const from = order[i];
    position[from] = i;
    table.offset[i] = frames.offset[from];
    table.size[i] = frames.size[from];
    table.decodedSize[i] = frames.decodedSize[from];
    table.codec[i] = frames.codec[from];
    if (table.offset[i] < free || table.offset[i] + table.size[i] > dataSize) {
      const why = `${table.size[i]} bytes at ${table.offset[i]} of the blob overlap others or leave its ${dataSize} bytes of data`;
      throw corrupt(STRUCTURE, 'compressed_offset', 0, why);
    }
    free = table.offset[i] + table.size[i];
  }
  if (!sorted) for (let i = 0; i < references.length; i++) references[i] = position[references[i]];
  return table;
}
