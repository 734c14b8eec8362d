import { NymphError } from '../errors.ts';
import { encodeChunks } from '../formats/rafs/chunk-addresses.ts';
import type { WrittenBlob } from '../formats/rafs/write/blob-writer.ts';
import { encodeBootstrap, prefetchNodes } from '../formats/rafs/write/bootstrap.ts';
import type { BuildOptions } from '../formats/rafs/write/build.ts';
import { makeTree, type SourceTree } from '../formats/rafs/write/tree.ts';
import { holdableAttributes, type LeftOut } from './attributes.ts';
import { createLayerTree } from './layers.ts';
import type { LayerPacking, PackedLayer } from './pack-layer.ts';

export interface MergedImage {
  bootstrap: Buffer;
  /** Those that a file refers to, in the order of the device table. */
  blobs: WrittenBlob[];
  /** Names in the tree, the root's included. */
  names: number;
  /** Bytes of all files, hard links once. */
  content: number;
  leftOut: LeftOut;
}

const MAX_BLOBS = 254;

/** Puts layers over each other, the lowest first, with whiteouts applied, and writes the bootstrap of the tree that comes out. */
export async function mergeLayers(
  layers: readonly PackedLayer[],
  options: LayerPacking & Pick<BuildOptions, 'prefetch' | 'buildTime'>,
): Promise<MergedImage> {
  const names = createLayerTree();
  for (const { entries } of layers) names.add(entries, true);
  const leftOut: LeftOut = { count: 0 };
  const tree = await makeTree(holdableAttributes(names.entries(), leftOut));
  const blobs = numberBlobs(tree, layers);
  let content = 0;
  for (const { node, size, entry } of tree.files) {
    const chunks = entry.content?.kind === 'chunks' ? entry.content.chunks : [];
    node.content = { kind: 'file', size, ...encodeChunks(size, options.chunkSize, (k) => chunks[k]) };
    content += size;
  }
  const { chunkSize, compressor, digester, buildTime = 0 } = options;
  const prefetch = prefetchNodes(tree, options.prefetch ?? []);
  const fields = { tree, blobs, chunkSize, compressor, digester, prefetch, buildTime, toc: true };
  return { bootstrap: encodeBootstrap(fields), blobs, names: tree.names, content, leftOut };
}

/** Gives the blobs that files refer to their places in the device table, and tells their chunks. */
function numberBlobs(tree: SourceTree, layers: readonly PackedLayer[]): WrittenBlob[] {
  const used = new Set<number>();
  for (const { entry } of tree.files)
    if (entry.content?.kind === 'chunks') for (const chunk of entry.content.chunks) used.add(chunk.blob);
  const all = [...new Set(layers.map(({ blob }) => blob))].filter((blob) => blob !== undefined);
  const blobs = all.filter(({ chunks }) => used.has(chunks[0].blob));
  if (blobs.length > MAX_BLOBS)
    throw new NymphError('unsupported', `an image of ${blobs.length} layers with content: RAFS v6 has ${MAX_BLOBS}`);
  for (const [number, blob] of blobs.entries()) for (const chunk of blob.chunks) chunk.blob = number;
  return blobs;
}
