import { NymphError } from '../errors.ts';
import { BLOCK_SIZE } from '../image/image.ts';
import { type ErofsNode, type InodeArea, writeInodes } from './write-inodes.ts';
import { DEVICE_SLOT_SIZE, DEVICE_TABLE_OFFSET, writeSuperBlock } from './write-super-block.ts';

/** The root has inode number 128: the meta area starts one block before its inode. */
export const ROOT_NID = 128;
const MAX_SIZE = 0x80000000;
const MAX_BLOCKS = 2 ** 32;

/**
 * Writes an EROFS image of a tree: super-block, device table, inodes.
 * @param devices what chunk addresses mean by 1, 2, …
 * @param names in the tree, the root's included
 * @throws NymphError `unsupported` above the limits of the format
 */
export function writeImage(
  root: ErofsNode,
  devices: readonly { tag: string; blocks: number }[],
  names: number,
): { bytes: Buffer<ArrayBuffer>; nidOf: InodeArea['nidOf'] } {
  if (devices.reduce((sum, { blocks }) => sum + blocks, 0) >= MAX_BLOCKS)
    throw new NymphError('unsupported', 'blobs of more than 16 TiB together');
  const inodesAt = Math.ceil((DEVICE_TABLE_OFFSET + devices.length * DEVICE_SLOT_SIZE) / BLOCK_SIZE) * BLOCK_SIZE;
  const area = writeInodes(root, inodesAt / BLOCK_SIZE, ROOT_NID);
  const size = inodesAt + area.bytes.length;
  if (size > MAX_SIZE) throw new NymphError('unsupported', `an EROFS image of ${size} bytes; 2 GiB are the limit`);
  const bytes = Buffer.alloc(size);
  // No device is mapped into the addresses of the image itself: block 0 means none.
  const slots = devices.map((device) => ({ ...device, mappedBlock: 0 }));
  writeSuperBlock(bytes, { rootNid: ROOT_NID, names, metaBlock: inodesAt / BLOCK_SIZE - 1, devices: slots });
  bytes.set(area.bytes, inodesAt);
  return { bytes, nidOf: area.nidOf };
}
