import { readU64 } from '../../../erofs/fields.ts';
import { corrupt } from '../../../errors.ts';
import {
  BLOB_CHUNK_INFO_V2,
  BLOB_CHUNKDICT_GENERATED,
  BLOB_FEATURES,
  BLOB_HAS_TAR_HEADER,
  bitNames,
  unsupported,
} from '../flags.ts';
import { EXTENDED_BLOB_SIZE, type SuperBlock } from './super-block.ts';

/** One blob as a v5 bootstrap knows it. Sizes in bytes. */
export interface BlobV5 {
  /** 64 lower-case hex characters. */
  id: string;
  features: number;
  /** Chunks in the blob, and its uncompressed size; undefined where the builder did not say. */
  chunkCount: number | undefined;
  uncompressedSize: number | undefined;
  /** Every chunk is stored inside of this many bytes from the start of the object. */
  dataSize: number;
}

export const MAX_CHUNKS = 2 ** 24;
export const MAX_UNCOMPRESSED_SIZE = 2 ** 44;
const MAX_COMPRESSED_SIZE = 2 ** 40;
const STRUCTURE = 'RAFS v5 blob table';
const EXTENDED = 'RAFS v5 extended blob table';
const TAR_HEADER_SIZE = 512;
const HEAD_SIZE = 8;
/** Stands for the id of the blob that carries the bootstrap itself. */
const PLACEHOLDER_ID = 'x'.repeat(64);
const BLOB_ID = /^[0-9a-f]{64}$/;
const INTERNAL_FEATURE = 0x80000000;
const INCOMPATIBLE_FEATURES = 0xffff;
const KNOWN_INCOMPATIBLE = 0x0fff;
/** ZRAN, SEPARATE, TARFS, BATCH, ENCRYPTED, EXTERNAL: chunks that a v5 chunk record alone does not lead to. */
const REFUSED_FEATURES = 0x8 | 0x10 | 0x40 | 0x80 | 0x100 | 0x800;

/**
 * Reads the blob table and the extended blob table.
 * @param blobId replaces the placeholder id of a bootstrap that came out of its own blob
 * @throws NymphError `corrupt`, or `unsupported` naming the feature
 */
export function readBlobTable(view: DataView, superBlock: SuperBlock, blobId: string | undefined): BlobV5[] {
  const { extendedBlobTable: extended } = superBlock;
  const ids = readIds(view, superBlock, blobId);
  const count = extended.size / EXTENDED_BLOB_SIZE;
  if (count !== 0 && count !== ids.length) throw corrupt(EXTENDED, 'entries', 68, `${count} for ${ids.length} blobs`);
  return ids.map((id, i) => {
    const blob = count === 0 ? withoutEntry(id) : readExtended(view, extended.offset + i * EXTENDED_BLOB_SIZE, id);
    // Such blobs were made from the index of an eStargz layer alone, which does not say where a chunk ends.
    if (superBlock.compressor === 'gzip' && (blob.features & BLOB_CHUNK_INFO_V2) === 0) {
      throw unsupported(
        `RAFS v5 blob ${id}: a reference to an eStargz layer (legacy), whose chunks have no stored sizes`,
        'Convert the original image with `nydusify convert --fs-version 6`.',
      );
    }
    return blob;
  });
}

/** The ids: `prefetch_offset u32 · prefetch_size u32 · id`, a NUL between two entries; old tables end with padding. */
function readIds(view: DataView, { blobTable }: SuperBlock, blobId: string | undefined): string[] {
  const bytes = Buffer.from(view.buffer, view.byteOffset, view.byteLength);
  const end = blobTable.offset + blobTable.size;
  const ids = new Set<string>();
  for (let at = blobTable.offset; at + HEAD_SIZE <= end; ) {
    const start = at + HEAD_SIZE;
    const nul = bytes.subarray(start, end).indexOf(0);
    const stop = nul < 0 ? end : start + nul;
    let id = bytes.toString('latin1', start, Math.min(stop, start + PLACEHOLDER_ID.length + 1));
    if (id === PLACEHOLDER_ID && blobId !== undefined) id = blobId;
    if (!BLOB_ID.test(id)) {
      throw corrupt(STRUCTURE, 'blob_id', start, `"${id.replace(/[^ -~]/g, '.')}" is no blob id`);
    }
    if (ids.has(id)) throw corrupt(STRUCTURE, 'blob_id', start, `${id} is there twice`);
    ids.add(id);
    at = stop + 1;
  }
  return [...ids];
}

function withoutEntry(id: string): BlobV5 {
  return { id, features: 0, chunkCount: undefined, uncompressedSize: undefined, dataSize: MAX_COMPRESSED_SIZE };
}

function readExtended(view: DataView, at: number, id: string): BlobV5 {
  const chunkCount = view.getUint32(at, true);
  if (chunkCount > MAX_CHUNKS) throw corrupt(EXTENDED, 'chunk_count', at, `${chunkCount} is more than 2^24`);
  const features = view.getUint32(at + 4, true);
  checkFeatures(features, id, at + 4);
  const size = (field: string, offset: number, limit: number): number => {
    const value = readU64(view, at + offset, EXTENDED, field);
    if (value > limit) throw corrupt(EXTENDED, field, at + offset, `${value} is above the limit of ${limit}`);
    return value;
  };
  const uncompressedSize = size('uncompressed_size', 8, MAX_UNCOMPRESSED_SIZE);
  const compressedSize = size('compressed_size', 16, MAX_COMPRESSED_SIZE);
  const header = (features & BLOB_HAS_TAR_HEADER) !== 0 ? TAR_HEADER_SIZE : 0;
  if (compressedSize !== 0 && compressedSize < header) {
    throw corrupt(EXTENDED, 'compressed_size', at + 16, `${compressedSize} bytes hold no tar header`);
  }
  return {
    id,
    features,
    chunkCount: (features & BLOB_CHUNKDICT_GENERATED) !== 0 ? undefined : chunkCount,
    uncompressedSize: uncompressedSize || undefined,
    dataSize: compressedSize === 0 ? MAX_COMPRESSED_SIZE : compressedSize - header,
  };
}

function checkFeatures(features: number, id: string, at: number): void {
  const refused = features & REFUSED_FEATURES;
  if (refused !== 0) {
    const names = bitNames(refused, BLOB_FEATURES).join(', ');
    throw unsupported(
      `RAFS v5 blob ${id}: ${names} is not supported in RAFS v5`,
      'Convert the image again with `--fs-version 6`.',
    );
  }
  const unknown = features & INCOMPATIBLE_FEATURES & ~KNOWN_INCOMPATIBLE;
  if (unknown !== 0) {
    throw unsupported(
      `RAFS v5 blob ${id}: unknown features 0x${unknown.toString(16)}`,
      'The image needs a newer nymph.',
    );
  }
  if ((features & INTERNAL_FEATURE) !== 0) throw corrupt(EXTENDED, 'features', at, 'a bit that is never stored');
}
