import { readU64 } from '../../erofs/fields.ts';
import type { Erofs } from '../../erofs/super-block.ts';
import { corrupt } from '../../errors.ts';
import { BLOCK_SIZE, type Cipher, CODECS, type Codec, type DigestAlgorithm } from '../../image/image.ts';
import {
  BLOB_ALIGNED,
  BLOB_BATCH,
  BLOB_CAP_TAR_TOC,
  BLOB_CHUNK_INFO_V2,
  BLOB_ENCRYPTED,
  BLOB_EXTERNAL,
  BLOB_HAS_TAR_HEADER,
  BLOB_SEPARATE,
  BLOB_TARFS,
  BLOB_ZRAN,
  CONVERT_AGAIN,
  TARFS_REASON,
  unsupported,
} from './flags.ts';
import { BLOB_ENTRY_SIZE, type RafsSuperBlock } from './super-block.ts';

/** One entry of the blob table. Sizes and offsets in bytes. */
export interface BlobEntry {
  /** Position in the device table. */
  index: number;
  /** 64 lower-case hex characters. */
  id: string;
  features: number;
  compressor: Codec;
  digester: DigestAlgorithm;
  /** Chunks in the blob; the image may refer to fewer. */
  chunkCount: number;
  /** What the builder had written so far: not the size of the object. */
  compressedSize: number;
  uncompressedSize: number;
  /** Size of the chunk data, which starts at byte 0 of the object: every frame is inside. */
  dataSize: number;
  /** ToC at the end of the object with its tar header; 0 and zeros where not known. */
  tocSize: number;
  tocDigest: Uint8Array;
  /** The object that holds the chunk information and the ToC, where it is not the one with the data. */
  separate?: SeparateObject;
  /** The chunk information array in its object; its header of 4096 bytes follows. */
  chunkInfo: { codec: Codec; offset: number; compressedSize: number; uncompressedSize: number };
  /** True if the bootstrap alone does not say where the chunks are: `readImage` needs the chunk information. */
  needsChunkInfo: boolean;
  /** Chunks, chunk information and its header are encrypted. */
  cipher?: Cipher;
}

/** An object beside a blob's data: 64 lower-case hex characters, of its SHA-256, and bytes. */
export interface SeparateObject {
  id: string;
  size: number;
}

const STRUCTURE = 'RAFS blob table';
const ID_SIZE = 64;
const TAR_HEADER_SIZE = 512;
const MAX_CHUNKS = 2 ** 24;
const MAX_UNCOMPRESSED_SIZE = 2 ** 44;
const MAX_COMPRESSED_SIZE = 2 ** 40;
const INCOMPATIBLE_FEATURES = 0xffff;
const KNOWN_INCOMPATIBLE = 0x0fff;
const EXTERNAL_REASON =
  'EXTERNAL: its bytes are in a foreign object, and the image has a CRC-32C for each chunk but no digest to verify it';
const INTERNAL_FEATURE = 0x80000000;
const AES_128_XTS = 1;
const DIGESTERS: readonly DigestAlgorithm[] = ['blake3', 'sha256'];
/** Stands for the id of the blob that carries the bootstrap itself. */
const PLACEHOLDER_ID = 'x'.repeat(ID_SIZE);
const BLOB_ID = /^[0-9a-f]{64}$/;

/**
 * Reads the blob table and holds it against the device table.
 * @param blobId replaces the placeholder id of a bootstrap that came out of its own blob
 * @throws NymphError `corrupt`, or `unsupported` naming the feature
 */
export function readBlobTable(erofs: Erofs, superBlock: RafsSuperBlock, blobId?: string): BlobEntry[] {
  const { offset, size } = superBlock.blobTable;
  const count = size / BLOB_ENTRY_SIZE;
  if (count !== erofs.devices.length) {
    throw corrupt(STRUCTURE, 'blob_table_size', 1152 + 16, `${count} blobs, but ${erofs.devices.length} devices`);
  }
  const ids = new Set<string>();
  const blobs: BlobEntry[] = [];
  for (let index = 0; index < count; index++) {
    const at = offset + index * BLOB_ENTRY_SIZE;
    const blob = readEntry(erofs, at, index, superBlock.chunkSize);
    checkDevice(erofs, blob, at);
    if (blob.id === PLACEHOLDER_ID && blobId !== undefined) blob.id = blobId;
    if (!BLOB_ID.test(blob.id)) throw corrupt(STRUCTURE, 'blob_id', at, `"${printable(blob.id)}" is no blob id`);
    if (ids.has(blob.id)) throw corrupt(STRUCTURE, 'blob_id', at, `${blob.id} is there twice`);
    ids.add(blob.id);
    blobs.push(blob);
  }
  return blobs;
}

function readEntry(erofs: Erofs, at: number, index: number, chunkSize: number): BlobEntry {
  const { view, bytes } = erofs;
  const u32 = (field: number) => view.getUint32(at + field, true);
  const u64 = (field: number, name: string) => readU64(view, at + field, STRUCTURE, name);
  const features = u32(84);
  checkFeatures(features, index, at);
  if (u32(64) !== index) throw corrupt(STRUCTURE, 'blob_index', at + 64, `${u32(64)}, not ${index}`);
  if (u32(68) !== chunkSize) throw corrupt(STRUCTURE, 'chunk_size', at + 68, `${u32(68)}, not ${chunkSize}`);
  const chunkCount = u32(72);
  if (chunkCount > MAX_CHUNKS) throw corrupt(STRUCTURE, 'chunk_count', at + 72, `${chunkCount} is more than 2^24`);
  const uncompressedSize = u64(96, 'uncompressed_size');
  const compressedSize = u64(88, 'compressed_size');
  if (uncompressedSize > MAX_UNCOMPRESSED_SIZE) throw corrupt(STRUCTURE, 'uncompressed_size', at + 96, 'above 2^44');
  if (compressedSize > MAX_COMPRESSED_SIZE) throw corrupt(STRUCTURE, 'compressed_size', at + 88, 'above 2^40');
  const chunkInfo = {
    codec: pick(CODECS, u32(108), 'ci_compressor', at + 108),
    offset: u64(112, 'ci_offset'),
    compressedSize: u64(120, 'ci_compressed_size'),
    uncompressedSize: u64(128, 'ci_uncompressed_size'),
  };
  return {
    index,
    id: Buffer.from(bytes.buffer, bytes.byteOffset + at, ID_SIZE).toString('latin1'),
    features,
    compressor: pick(CODECS, u32(76), 'compressor', at + 76),
    digester: pick(DIGESTERS, u32(80), 'digester', at + 80),
    chunkCount,
    compressedSize,
    uncompressedSize,
    dataSize: dataSize(features, chunkInfo.offset, compressedSize, at),
    tocSize: u32(104),
    tocDigest: bytes.slice(at + 136, at + 168),
    chunkInfo,
    needsChunkInfo: (features & (BLOB_BATCH | BLOB_ZRAN)) !== 0,
    ...((features & BLOB_SEPARATE) !== 0 && {
      separate: {
        id: Buffer.from(bytes.subarray(at + 168, at + 200)).toString('hex'),
        size: u64(200, 'blob_meta_size'),
      },
    }),
    ...cipherOf(features, u32(216), bytes, index, at),
  };
}

/** The key, with the fields of the separate object: an encrypted blob has none. */
function cipherOf(
  features: number,
  algorithm: number,
  bytes: Uint8Array,
  index: number,
  at: number,
): { cipher?: Cipher } {
  if (algorithm > AES_128_XTS) {
    throw unsupported(`RAFS blob ${index}: cipher ${algorithm} is not known`, 'The image needs a newer nymph.');
  }
  if ((algorithm !== 0) !== ((features & BLOB_ENCRYPTED) !== 0)) {
    throw corrupt(STRUCTURE, 'cipher', at + 216, `${algorithm}, which contradicts the features`);
  }
  if (algorithm === 0) return {};
  const key = bytes.slice(at + 168, at + 200);
  // OpenSSL refuses such keys, and so do builders.
  if (Buffer.compare(key.subarray(0, 16), key.subarray(16)) === 0) {
    throw corrupt(STRUCTURE, 'key', at + 168, 'both halves are the same');
  }
  return { cipher: { key, iv: bytes.slice(at + 200, at + 216) } };
}

function checkFeatures(features: number, index: number, at: number): void {
  if ((features & BLOB_TARFS) !== 0) throw unsupported(`RAFS blob ${index}: ${TARFS_REASON}`, CONVERT_AGAIN);
  if ((features & BLOB_EXTERNAL) !== 0) {
    throw unsupported(`RAFS blob ${index}: ${EXTERNAL_REASON}`, 'Mount the artifact that it refers to instead.');
  }
  const unknown = features & INCOMPATIBLE_FEATURES & ~KNOWN_INCOMPATIBLE;
  if (unknown !== 0) {
    throw unsupported(
      `RAFS blob ${index}: unknown features 0x${unknown.toString(16)}`,
      'The image needs a newer nymph.',
    );
  }
  if ((features & INTERNAL_FEATURE) !== 0) throw corrupt(STRUCTURE, 'features', at + 84, 'a bit that is never stored');
  if ((features & BLOB_ALIGNED) === 0) throw corrupt(STRUCTURE, 'features', at + 84, 'not ALIGNED');
  const contradict = (why: string) => corrupt(STRUCTURE, 'features', at + 84, why);
  const has = (bits: number) => (features & bits) === bits;
  if ((has(BLOB_BATCH) || has(BLOB_ZRAN)) && !has(BLOB_CHUNK_INFO_V2)) {
    throw contradict(`${has(BLOB_BATCH) ? 'BATCH' : 'ZRAN'} without CHUNK_INFO_V2`);
  }
  if (has(BLOB_ZRAN) && !has(BLOB_SEPARATE)) throw contradict('ZRAN without SEPARATE');
  if (has(BLOB_SEPARATE | BLOB_ENCRYPTED)) throw contradict('SEPARATE and ENCRYPTED, which use the same fields');
  if (has(BLOB_ZRAN | BLOB_BATCH)) throw contradict('ZRAN and BATCH');
}

function dataSize(features: number, chunkInfoOffset: number, compressedSize: number, at: number): number {
  if ((features & BLOB_CAP_TAR_TOC) === 0 || (features & BLOB_SEPARATE) !== 0) return compressedSize;
  const size = chunkInfoOffset - ((features & BLOB_HAS_TAR_HEADER) !== 0 ? TAR_HEADER_SIZE : 0);
  if (size < 0 || size > MAX_COMPRESSED_SIZE)
    throw corrupt(STRUCTURE, 'ci_offset', at + 112, 'below 512 or above 2^40');
  return size;
}

/** The kernel sees devices only, so both tables must mean the same blobs. */
function checkDevice(erofs: Erofs, blob: BlobEntry, at: number): void {
  const device = erofs.devices[blob.index];
  if (device.tag !== blob.id) throw corrupt('EROFS device slot', 'tag', device.offset, 'not the id in the blob table');
  if (device.blocks !== Math.ceil(blob.uncompressedSize / BLOCK_SIZE)) {
    throw corrupt(STRUCTURE, 'uncompressed_size', at + 96, `the device has ${device.blocks} blocks`);
  }
}

function pick<T>(names: readonly T[], value: number, field: string, at: number): T {
  if (value >= names.length) throw corrupt(STRUCTURE, field, at, `${value} is not known`);
  return names[value];
}

function printable(text: string): string {
  return text.replace(/[^ -~]/g, '.');
}
