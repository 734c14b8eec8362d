import { NymphError } from '../../errors.ts';

/** Names of bits on disk, as the RAFS builders call them. */
export type BitNames = readonly (readonly [bit: number, name: string])[];

export const SB_TARFS = 0x200;
export const SB_AES_128_XTS = 0x02000000;

export const SUPER_BLOCK_FLAGS: BitNames = [
  [0x1, 'COMPRESSION_NONE'],
  [0x2, 'COMPRESSION_LZ4'],
  [0x4, 'HASH_BLAKE3'],
  [0x8, 'HASH_SHA256'],
  [0x10, 'EXPLICIT_UID_GID'],
  [0x20, 'HAS_XATTR'],
  [0x40, 'COMPRESSION_GZIP'],
  [0x80, 'COMPRESSION_ZSTD'],
  [0x100, 'INLINED_CHUNK_DIGEST'],
  [SB_TARFS, 'TARFS_MODE'],
  [0x01000000, 'ENCRYPTION_NONE'],
  [SB_AES_128_XTS, 'ENCRYPTION_AES_128_XTS'],
];

export const BLOB_ALIGNED = 0x1;
export const BLOB_CHUNK_INFO_V2 = 0x4;
export const BLOB_ZRAN = 0x8;
export const BLOB_SEPARATE = 0x10;
export const BLOB_TARFS = 0x40;
export const BLOB_BATCH = 0x80;
export const BLOB_ENCRYPTED = 0x100;
export const BLOB_CHUNKDICT_GENERATED = 0x200;
export const BLOB_EXTERNAL = 0x800;
export const BLOB_HAS_TAR_HEADER = 0x10000000;
export const BLOB_CAP_TAR_TOC = 0x40000000;

export const BLOB_FEATURES: BitNames = [
  [BLOB_ALIGNED, 'ALIGNED'],
  [0x2, 'INLINED_FS_META'],
  [BLOB_CHUNK_INFO_V2, 'CHUNK_INFO_V2'],
  [BLOB_ZRAN, 'ZRAN'],
  [BLOB_SEPARATE, 'SEPARATE'],
  [0x20, 'INLINED_CHUNK_DIGEST'],
  [BLOB_TARFS, 'TARFS'],
  [BLOB_BATCH, 'BATCH'],
  [BLOB_ENCRYPTED, 'ENCRYPTED'],
  [BLOB_CHUNKDICT_GENERATED, 'IS_CHUNKDICT_GENERATED'],
  [0x400, 'IS_SEPARATED_WITH_PREFETCH_FILES'],
  [BLOB_EXTERNAL, 'EXTERNAL'],
  [BLOB_HAS_TAR_HEADER, 'HAS_TAR_HEADER'],
  [0x20000000, 'HAS_TOC'],
  [BLOB_CAP_TAR_TOC, 'CAP_TAR_TOC'],
];

export const TARFS_REASON = 'TARFS mode: its chunks have no digests, so nothing of it can be verified';
export const CONVERT_AGAIN = 'Convert the image again, with nydusify or `nydus-image create --type tar-rafs`.';

/** Names of the bits that are set; what has no name is shown in hex, all in one. */
export function bitNames(value: number, names: BitNames): string[] {
  const shown: string[] = [];
  let rest = value;
  for (const [bit, name] of names) {
    if ((value & bit) === 0) continue;
    shown.push(name);
    rest &= ~bit;
  }
  if (rest !== 0) shown.push(`0x${(rest >>> 0).toString(16)}`);
  return shown;
}

/** An image that is right, but that we do not serve. */
export function unsupported(what: string, hint?: string): NymphError {
  return new NymphError('unsupported', what, { hint });
}
