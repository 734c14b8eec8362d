import { gunzipSync, zstdDecompressSync } from 'node:zlib';
import { corrupt, NymphError } from '../../errors.ts';
import { readTarHeader, TAR_BLOCK_SIZE } from './tar-header.ts';

/** What the bootstrap layer of an image holds. */
export interface BootstrapLayer {
  bootstrap: Uint8Array;
  /** `image/<blob id>.blob.meta` by blob id; older builders put none there. */
  blobMeta: Map<string, Uint8Array>;
}

const STRUCTURE = 'bootstrap layer';
const BOOTSTRAP_NAMES: readonly string[] = ['image/image.boot', 'image.boot'];
const BLOB_META_NAME = /^image\/([0-9a-f]{64})\.blob\.meta$/;
const REGULAR_TYPES = '07';
/** Headers with further fields for the next member: of what we look for, names and sizes need none. */
const EXTENSION_TYPES = 'xgLK';

/**
 * Unpacks the bootstrap layer of an OCI image. Synchronous: for worker threads.
 * @param layer the layer as it is stored: a tar, plain or compressed with gzip or zstd
 * @param limit most bytes that it may unpack to
 * @returns views into the unpacked layer
 * @throws NymphError `corrupt`, or `unsupported` above the limit
 */
export function unpackBootstrapLayer(layer: Uint8Array, limit: number): BootstrapLayer {
  const tar = decompress(layer, limit);
  let bootstrap: Uint8Array | undefined;
  const blobMeta = new Map<string, Uint8Array>();
  let at = 0;
  while (at + TAR_BLOCK_SIZE <= tar.length && !isZero(tar, at)) {
    const header = readTarHeader(tar, at);
    if (header === undefined) throw corrupt(STRUCTURE, 'tar header', at, 'wrong checksum or size');
    const start = at + TAR_BLOCK_SIZE;
    if (start + header.size > tar.length) throw corrupt(STRUCTURE, 'size', at + 124, `${header.name} is cut short`);
    const data = tar.subarray(start, start + header.size);
    const isFile = REGULAR_TYPES.includes(header.type);
    const metaId = BLOB_META_NAME.exec(header.name)?.[1];
    if (isFile && BOOTSTRAP_NAMES.includes(header.name)) {
      if (bootstrap !== undefined) throw corrupt(STRUCTURE, 'name', at, 'two bootstraps');
      bootstrap = data;
    } else if (isFile && metaId !== undefined) {
      blobMeta.set(metaId, data);
    } else if (EXTENSION_TYPES.includes(header.type) && /(^|\n)\d+ size=/.test(Buffer.from(data).toString('latin1'))) {
      throw corrupt(STRUCTURE, 'tar header', at, 'a size in an extended header');
    }
    at = start + Math.ceil(header.size / TAR_BLOCK_SIZE) * TAR_BLOCK_SIZE;
  }
  if (bootstrap === undefined) throw corrupt(STRUCTURE, 'name', 0, `no ${BOOTSTRAP_NAMES[0]} inside`);
  return { bootstrap, blobMeta };
}

function decompress(layer: Uint8Array, limit: number): Uint8Array {
  const magic = layer.length < 4 ? 0 : new DataView(layer.buffer, layer.byteOffset).getUint32(0);
  const options = { maxOutputLength: limit };
  try {
    if (magic >>> 16 === 0x1f8b) return gunzipSync(layer, options);
    if (magic === 0x28b52ffd) return zstdDecompressSync(layer, options);
  } catch (error) {
    if (error instanceof RangeError) throw tooLarge(limit);
    throw corrupt(STRUCTURE, 'compression', 0, error instanceof Error ? error.message : String(error));
  }
  if (layer.length > limit) throw tooLarge(limit);
  return layer;
}

function tooLarge(limit: number): NymphError {
  return new NymphError('unsupported', `${STRUCTURE}: unpacks to more than ${limit} bytes`);
}

function isZero(bytes: Uint8Array, at: number): boolean {
  for (let i = at; i < at + TAR_BLOCK_SIZE; i++) if (bytes[i] !== 0) return false;
  return true;
}
