import { PADDED_SIZE } from '../../codec/decrypt.ts';
import { corrupt, NymphError } from '../../errors.ts';
import { BLOCK_SIZE, type Blob, type ChunkTable, CODECS, type FrameTable, type OciDigest } from '../../image/image.ts';
import type { BlobEntry } from './blob-table.ts';
import { type BatchContext, type ChunkInfo, type ChunkPlace, readBatchContext, readChunkPlace } from './chunk-info.ts';
import { type BlobRecords, RECORD } from './chunk-records.ts';
import { BLOB_ZRAN, unsupported } from './flags.ts';
import { readZranContexts } from './zran.ts';

const STRUCTURE = 'RAFS chunk table';
const CHUNK_INFO = 'RAFS chunk information';
const DIGEST_SIZE = 32;
const CHUNK_COMPRESSED = 0x1;
const CHUNK_ENCRYPTED = 0x4;
const CHUNK_BATCH = 0x8;
const CHUNK_HAS_CRC = 0x10;
const CHUNK_FLAGS = CHUNK_COMPRESSED | CHUNK_ENCRYPTED | CHUNK_BATCH | CHUNK_HAS_CRC;
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
    if ((blob.features & BLOB_ZRAN) !== 0) return buildZranBlob(records, info, digest, chunks);
    collectBatchFrames(view, records, info, chunkSize, frames, chunks);
  } else {
    for (let i = 0; i < count; i++) chunks.frame[i] = collectFrame(view, records, i, frames);
  }
  return { ...blobFields(blob, digest), chunks, frames: sortFrames(frames, chunks.frame, blob.dataSize) };
}

/** A blob whose data is a gzip stream: each context is a frame, whether the image uses it or not. */
function buildZranBlob(records: BlobRecords, info: ChunkInfo, digest: OciDigest, chunks: ChunkTable): Blob {
  const { blob, count } = records;
  const { frames, dictionaries } = readZranContexts(info, blob.dataSize);
  for (let i = 0; i < count; i++) {
    const place = readChunkPlace(info, records.index[i]);
    checkPlace(records, i, place);
    const bad = (field: string, why: string) => corrupt(CHUNK_INFO, field, records.index[i], why);
    if (place.kind !== 'zran') throw bad('flags', 'not ZRAN, though its blob is');
    if (place.context >= frames.count) throw bad('context', `${place.context} of ${frames.count}`);
    if (place.contextOffset + place.uncompressedSize > frames.decodedSize[place.context])
      throw bad('context', 'a chunk reaches out of its context');
    chunks.frame[i] = place.context;
    chunks.frameOffset[i] = place.contextOffset;
  }
  return { ...blobFields(blob, digest), chunks, frames, dictionaries };
}

function blobFields(blob: BlobEntry, digest: OciDigest): Omit<Blob, 'chunks' | 'frames'> {
  return {
    id: blob.id,
    digest,
    size: Math.ceil(blob.uncompressedSize / BLOCK_SIZE) * BLOCK_SIZE,
    storedSize: blob.dataSize,
    digestAlgorithm: blob.digester,
    ...(blob.cipher && { cipher: blob.cipher }),
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
  const encrypted = (flags & CHUNK_ENCRYPTED) !== 0;
  if (encrypted !== (records.blob.cipher !== undefined)) {
    throw corrupt(
      STRUCTURE,
      'flags',
      at + RECORD.flags,
      encrypted ? 'encrypted, but the blob is not' : 'not encrypted',
    );
  }
  return addFrame(frames, offset, size, records.size[i], codec, at + RECORD.compressedSize, encrypted);
}

function addFrame(
  frames: Frames,
  offset: number,
  size: number,
  decodedSize: number,
  codec: number,
  at: number,
  encrypted: boolean,
) {
  // Builders keep what does not shrink as it is; a gzip stream is somebody else's, and may have grown.
  const most = codec === GZIP ? decodedSize + GZIP_OVERHEAD + (decodedSize >>> 10) : decodedSize;
  // Encryption pads what is short.
  const padded = encrypted && size === PADDED_SIZE;
  if (size === 0 || (!padded && (size > most || (codec === NONE && size !== decodedSize)))) {
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
    checkPlace(records, i, place);
    if (place.kind === 'zran') throw corrupt(CHUNK_INFO, 'flags', records.index[i], 'ZRAN, which its blob is not');
    if (place.kind === 'alone') {
      const frame = collectFrame(view, records, i, frames);
      if (frames.offset[frame] !== place.offset || frames.size[frame] !== place.size) {
        throw corrupt(STRUCTURE, 'compressed_offset', at + RECORD.compressedOffset, 'not as in the chunk information');
      }
      chunks.frame[i] = frame;
      continue;
    }
    const context = readBatchContext(info, place.context);
    if (
      context.uncompressedSize > chunkSize ||
      place.contextOffset + place.uncompressedSize > context.uncompressedSize
    ) {
      throw corrupt(CHUNK_INFO, 'batch', records.index[i], 'a chunk reaches out of its batch');
    }
    let frame = batches.get(place.context);
    if (frame === undefined) {
      frame = addBatchFrame(records, place, context, frames, at);
      batches.set(place.context, frame);
    } else if (frames.offset[frame] !== place.offset) {
      throw corrupt(CHUNK_INFO, 'compressed_offset', records.index[i], 'chunks of a batch differ');
    }
    chunks.frame[i] = frame;
    chunks.frameOffset[i] = place.contextOffset;
  }
}

function addBatchFrame(records: BlobRecords, place: ChunkPlace, context: BatchContext, frames: Frames, at: number) {
  const { compressedSize, uncompressedSize } = context;
  const { blob } = records;
  // Whether it shrank shows in the size alone; one that was padded is too small to shrink.
  const padded = blob.cipher !== undefined && compressedSize === PADDED_SIZE && uncompressedSize < PADDED_SIZE;
  const codec = compressedSize === uncompressedSize || padded ? NONE : CODECS.indexOf(blob.compressor);
  return addFrame(frames, place.offset, compressedSize, uncompressedSize, codec, at, blob.cipher !== undefined);
}

/** The two tables must say the same of a chunk. */
function checkPlace(records: BlobRecords, i: number, place: ChunkPlace): void {
  if (place.uncompressedOffset === records.block[i] * BLOCK_SIZE && place.uncompressedSize === records.size[i]) return;
  const at = records.at[i] + RECORD.uncompressedOffset;
  throw corrupt(STRUCTURE, 'uncompressed_offset', at, 'not as in the chunk information');
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
