/** RAFS v5 images that tests build from a tree of their own: the tree stays as the truth to compare with. */
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';
import { tarHeader } from '../src/formats/rafs/write/tar.ts';
import { buildV5, type NodeV5, type OptionsV5 } from './unit/rafs-v5-builder.ts';

export interface MadeV5 extends OptionsV5 {
  /** Whether chunks of zeros are holes. */
  holes?: boolean;
  /** The blob of a file. Default 0. */
  blobOf?: (path: string) => number;
}

/** Builds an image of a tree as a folder: `bootstrap` and `blobs/`, or with `inline` one blob that holds both. */
export async function makeV5(tree: string, folder: string, options: MadeV5 = {}): Promise<void> {
  const root = await readNodes(tree, options);
  const { bootstrap, blobs } = buildV5(root, options);
  mkdirSync(join(folder, 'blobs'), { recursive: true });
  if (!options.inline) {
    writeFileSync(join(folder, 'bootstrap'), bootstrap);
    for (const [id, object] of blobs) writeFileSync(join(folder, 'blobs', id), object);
    return;
  }
  const [data] = blobs.values();
  const [dataEnd, end] = [tarHeader('image.blob', data.length), tarHeader('image.boot', bootstrap.length)];
  const object = Buffer.concat([data, dataEnd, bootstrap, end]);
  writeFileSync(join(folder, 'blobs', createHash('sha256').update(object).digest('hex')), object);
}

async function readNodes(tree: string, { chunkSize = 1 << 20, holes, blobOf }: MadeV5): Promise<NodeV5> {
  const byPath = new Map<string, NodeV5>();
  for await (const entry of walkDirectory(tree)) {
    const path = Buffer.from(entry.path).toString('latin1');
    const name = Buffer.from(path.slice(path.lastIndexOf('/') + 1) || '/', 'latin1');
    const { mode, uid, gid, mtime, mtimeNs, device } = entry;
    const node: NodeV5 = { name, mode, uid, gid, mtime, mtimeNs, blob: blobOf?.(path) };
    if (entry.linkTo !== undefined) {
      node.linkTo = byPath.get(Buffer.from(entry.linkTo).toString('latin1'))!;
      node.linkTo.nlink = (node.linkTo.nlink ?? 1) + 1;
    }
    if (mode >> 12 === 4) node.children = [];
    if (entry.target !== undefined) node.target = Buffer.from(entry.target);
    if (device !== undefined)
      node.rdev = ((device.minor & 0xff) | (device.major << 8) | ((device.minor & 0xfff00) << 12)) >>> 0;
    if (entry.xattrs?.length) node.xattrs = entry.xattrs.map((x) => [x.name.toString('latin1'), Buffer.from(x.value)]);
    if (entry.content?.kind === 'file') {
      node.content = readFileSync(entry.content.path);
      if (holes) node.holes = zeroChunks(node.content, chunkSize);
    }
    byPath.set(path, node);
    if (path !== '') byPath.get(path.slice(0, path.lastIndexOf('/')))!.children!.push(node);
  }
  return byPath.get('')!;
}

function zeroChunks(content: Buffer, chunkSize: number): number[] {
  const count = Math.ceil(content.length / chunkSize);
  const isZero = (k: number) => content.subarray(k * chunkSize, (k + 1) * chunkSize).every((byte) => byte === 0);
  return Array.from({ length: count }, (_, k) => k).filter(isZero);
}
