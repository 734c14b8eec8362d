/** What holds for every image that is accepted. */
import type { TreeCounts } from '../../src/formats/rafs/counts.ts';
import { type Blob, firstChunkAfter, type Image } from '../../src/image/image.ts';
import { checkImage } from '../unit/rafs-reading.ts';
import { kernelView, type SeenFile } from './kernel-view.ts';
import { ensure } from './target.ts';
import { treeView } from './tree-view.ts';

/** Files above this are not read through the FUSE tree, bytes. */
const MOST_READ = 64 << 20;

/**
 * The tables are whole; every byte that the kernel can reach is in them; and both readers of the bootstrap see the same.
 * @param bytes what the kernel would mount
 * @returns the kind of image
 */
export function checkAccepted(bytes: Uint8Array, image: Image, counts: TreeCounts): string {
  checkImage(image);
  const seen = kernelView(bytes);
  ensure(seen.length === counts.inodes + counts.hardLinks, `${seen.length} names, counted ${counts.inodes}`);
  for (const file of seen) checkExtents(file, image.blobs);
  if (seen.every(({ size }) => size <= MOST_READ)) {
    const other = treeView(bytes, image.blobs.length);
    ensure(JSON.stringify(seen) === JSON.stringify(other), difference(seen, other));
  }
  return `${image.format} ${image.blobs.length} blobs, ${Math.ceil(Math.log2(seen.length))} bits of names`;
}

function checkExtents({ path, extents, size }: SeenFile, blobs: readonly Blob[]): void {
  let length = 0;
  for (const extent of extents) {
    length += extent.length;
    if (extent.blob < 0) continue;
    const blob = blobs[extent.blob];
    const { chunks } = blob;
    const end = extent.offset + extent.length;
    ensure(end <= blob.size, `${path} reaches out of its blob`);
    for (let at = extent.offset; at < end; ) {
      const i = firstChunkAfter(chunks, at);
      ensure(i < chunks.count && chunks.offset[i] <= at, `byte ${at} of ${path} is in no chunk`);
      at = chunks.offset[i] + chunks.size[i];
    }
  }
  ensure(extents.length === 0 || length === size, `${path} has ${length} bytes of ${size}`);
}

function difference(one: readonly SeenFile[], other: readonly SeenFile[]): string {
  for (let i = 0; i < Math.max(one.length, other.length); i++) {
    const [a, b] = [JSON.stringify(one[i]), JSON.stringify(other[i])];
    if (a !== b) return `two readers differ: ${a} and ${b}`;
  }
  return 'two readers differ';
}
