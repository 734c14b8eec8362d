import { digestOf } from '../../../codec/digest.ts';
import { type Codec, wholeBlocks } from '../../../image/image.ts';
import { CHUNK_INFO_HEADER_SIZE } from '../chunk-info.ts';
import { BLOB_ALIGNED, BLOB_BATCH, BLOB_CAP_TAR_TOC, BLOB_CHUNK_INFO_V2, BLOB_HAS_TAR_HEADER } from '../flags.ts';
import type { BlobFile } from './blob-file.ts';
import { encodeChunkInfo, encodeChunkInfoHeader, type WrittenBatch, type WrittenChunk } from './chunk-info.ts';
import { type Compressor, compressFrame } from './compress.ts';
import { tarHeader } from './tar.ts';

const BLOB_INLINED_CHUNK_DIGEST = 0x20;
const BLOB_HAS_TOC = 0x20000000;

/** What the bootstrap says of the parts behind a blob's data. */
export interface BlobTail {
  features: number;
  chunkInfo: { codec: Codec; offset: number; storedSize: number; size: number };
  /** With its tar header; 0 bytes and zeros without a ToC. */
  tocSize: number;
  tocDigest: Uint8Array;
  /** Content of `image/<id>.blob.meta`: the array padded to a block, then its header. */
  meta: Buffer;
}

/**
 * Writes what follows the chunk data: chunk information and, with a ToC, tar headers behind each part, chunk digests and
 * the ToC.
 */
export async function writeBlobTail(
  file: BlobFile,
  chunks: readonly WrittenChunk[],
  batches: readonly WrittenBatch[] | null,
  options: { compressor: Compressor; level: number; toc: boolean },
): Promise<BlobTail> {
  const { compressor, level, toc } = options;
  let features = BLOB_ALIGNED | BLOB_CAP_TAR_TOC;
  if (batches) features |= BLOB_CHUNK_INFO_V2 | BLOB_BATCH;
  if (toc) features |= BLOB_HAS_TAR_HEADER | BLOB_HAS_TOC | BLOB_INLINED_CHUNK_DIGEST;
  const entries: Buffer[] = [];

  const dataSize = file.size;
  if (toc) {
    await file.append(tarHeader('image.blob', dataSize));
    const size = chunks.reduce((end, chunk) => Math.max(end, wholeBlocks(chunk.offset + chunk.size)), 0);
    entries.push(tocEntry('image.blob', 'none', file.digest(), 0, dataSize, size));
  }
  const array = encodeChunkInfo(chunks, batches);
  const room = Buffer.alloc(array.length);
  const stored = compressFrame(compressor, array, level, room);
  const bytes = room.subarray(0, stored.size);
  const codec = stored.compressed ? compressor : 'none';
  const chunkInfo = { codec, offset: file.size, storedSize: stored.size, size: array.length };
  const header = encodeChunkInfoHeader({
    ...chunkInfo,
    features,
    entries: chunks.length,
    batches: batches?.length ?? 0,
  });
  const sha256 = (bytes: Uint8Array): Uint8Array => digestOf('sha256', bytes);
  entries.push(tocEntry('blob.meta', codec, sha256(array), chunkInfo.offset, stored.size, array.length));
  await file.append(bytes);
  const headerAt = file.size;
  entries.push(tocEntry('blob.meta.header', 'none', sha256(header), headerAt, header.length, header.length));
  await file.append(header);
  const meta = Buffer.concat([array, Buffer.alloc(wholeBlocks(array.length) - array.length), header]);
  if (!toc) return { features, chunkInfo, tocSize: 0, tocDigest: new Uint8Array(32), meta };

  await file.append(tarHeader('blob.meta', stored.size + CHUNK_INFO_HEADER_SIZE));
  const digests = Buffer.concat(chunks.map((chunk) => chunk.digest));
  entries.push(tocEntry('blob.digest', 'none', sha256(digests), file.size, digests.length, digests.length));
  await file.append(digests);
  await file.append(tarHeader('blob.digest', digests.length));
  const table = Buffer.concat(entries);
  const tocBytes = Buffer.concat([table, tarHeader('rafs.blob.toc', table.length)]);
  await file.append(tocBytes);
  return { features, chunkInfo, tocSize: tocBytes.length, tocDigest: sha256(tocBytes), meta };
}

const TOC_ENTRY_SIZE = 128;
const TOC_FLAGS: Record<Compressor, number> = { none: 1, zstd: 2, lz4_block: 4 };

function tocEntry(
  name: string,
  codec: Compressor,
  digest: Uint8Array,
  offset: number,
  storedSize: number,
  size: number,
): Buffer {
  const entry = Buffer.alloc(TOC_ENTRY_SIZE);
  entry.writeUInt32LE(TOC_FLAGS[codec], 0);
  entry.write(name, 8, 16, 'latin1');
  entry.set(digest, 24);
  entry.writeBigUInt64LE(BigInt(offset), 56);
  entry.writeBigUInt64LE(BigInt(storedSize), 64);
  entry.writeBigUInt64LE(BigInt(size), 72);
  return entry;
}
