import { type Erofs, openErofs } from '../../../erofs/super-block.ts';
import { writeImage } from '../../../erofs/write-image.ts';
import { corrupt } from '../../../errors.ts';
import { BLOCK_SIZE } from '../../../image/image.ts';
import { encodeChunks } from '../chunk-addresses.ts';
import type { BlobRecords } from '../chunk-records.ts';
import { unsupported } from '../flags.ts';
import type { PrefetchTable } from '../prefetch.ts';
import { CHUNK_RECORD_SIZE } from '../super-block.ts';
import { readBlobTable } from './blob-table.ts';
import { type ChunksV5, collectChunks } from './chunks.ts';
import { INDEX_SIZE, readSuperBlock, type SuperBlock } from './super-block.ts';
import { type FileV5, readTree, type TreeV5 } from './tree.ts';

/** A v5 bootstrap as an EROFS image, whose chunk addresses mean places in blobs as we serve them. */
export interface Translated {
  erofs: Erofs;
  superBlock: SuperBlock;
  /** One for each device. */
  records: BlobRecords[];
  prefetch: PrefetchTable;
}

const MAX_BLOBS = 254;

/**
 * Checks a RAFS v5 bootstrap as a whole, digests of inodes included, and translates it. The same bytes give the same
 * image.
 *
 * The tree gets extended inodes with inline attributes; names with one inode number become one inode; holes stay
 * holes. Blobs that no file has chunks in are left out.
 * @throws NymphError `corrupt`, or `unsupported` naming the feature
 */
export function translateV5(bytes: Uint8Array, blobId: string | undefined): Translated {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const superBlock = readSuperBlock(view);
  const blobs = readBlobTable(view, superBlock, blobId);
  const tree = readTree(view, superBlock);
  const chunks = collectChunks(view, blobs, tree.files, superBlock);
  const { records } = chunks;
  if (records.length > MAX_BLOBS)
    throw unsupported(`a RAFS v5 image of ${records.length} blobs, of at most ${MAX_BLOBS}`);
  for (const file of tree.files) fillFile(file, chunks, superBlock.chunkSize);
  const devices = records.map(({ blob }) => ({ tag: blob.id, blocks: blob.uncompressedSize / BLOCK_SIZE }));
  const image = writeImage(tree.root, devices, tree.names);
  const prefetch = translatePrefetch(view, superBlock, tree, image.nidOf);
  return { erofs: openErofs(image.bytes), superBlock, records, prefetch };
}

function fillFile({ node, size, at }: FileV5, { records, find }: ChunksV5, chunkSize: number): void {
  const { format, addresses } = encodeChunks(size, chunkSize, (k) => {
    const found = find(at + k * CHUNK_RECORD_SIZE);
    if (found === undefined) return undefined;
    const { index, block } = records[found.device];
    return { blob: found.device, index: index[found.chunk], offset: block[found.chunk] * BLOCK_SIZE };
  });
  node.content = { kind: 'file', size, format, addresses };
}

/** Positions in the inode table become inode numbers; the first 0 ends the table. */
function translatePrefetch(
  view: DataView,
  { prefetchTable: { offset, size } }: SuperBlock,
  tree: TreeV5,
  nidOf: ReturnType<typeof writeImage>['nidOf'],
): PrefetchTable {
  const nids: number[] = [];
  for (let at = offset; at < offset + size; at += INDEX_SIZE) {
    const index = view.getUint32(at, true);
    if (index === 0) break;
    const node = tree.nodeOf(index);
    if (node === undefined) throw corrupt('RAFS v5 prefetch table', 'index', at, `inode ${index} is not in the tree`);
    nids.push(nidOf(node));
  }
  return { nids, offset };
}
