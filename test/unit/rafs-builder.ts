/** Builds small RAFS v6 bootstraps for tests, as upstream builders lay them out, with knobs for what they never do. */

export interface TestNode {
  name: string | Buffer;
  /** Type and permission bits. */
  mode: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  mtimeNs?: number;
  nlink?: number;
  /** Of a regular file. */
  size?: number;
  /** Chunks of a regular file, each `[blob, chunk]`. */
  chunks?: [number, number][];
  children?: TestNode[];
  target?: Buffer;
  rdev?: number;
  /** `[name_index, suffix, value]` */
  xattrs?: [number, string, Buffer][];
  compact?: boolean;
  /** log2 of the kernel's chunk size in blocks; by default as the builder chooses it. */
  kernelBits?: number;
  /** The inode that this name stands for, instead of one of its own. */
  linkTo?: TestNode;
}

export interface TestChunk {
  size: number;
  /** Stored bytes; 0 for a member of a batch. */
  stored: number;
  compressed: boolean;
  storedOffset: number;
}

export interface TestBlob {
  id: string;
  features: number;
  compressor: number;
  digester: number;
  chunks: TestChunk[];
}

export interface TestImage {
  root: TestNode;
  chunkSize: number;
  blobs: TestBlob[];
  prefetch?: TestNode[];
}

const BLOCK = 4096;
const ENTRY = 12;
const TYPES: Record<number, number> = { 1: 5, 2: 3, 4: 2, 6: 4, 8: 1, 10: 7, 12: 6 };

interface Placed {
  node: TestNode;
  parent: Placed;
  nid: number;
  at: number;
  data: Buffer;
  plainBlock: number;
  xattrs: Buffer;
}

/** Where the chunks of a blob are in its uncompressed space: byte offsets, then the end. */
export function chunkOffsets(blob: TestBlob): number[] {
  const offsets = [0];
  for (const { size } of blob.chunks) offsets.push(offsets[offsets.length - 1] + Math.ceil(size / BLOCK) * BLOCK);
  return offsets;
}

export function buildBootstrap(image: TestImage): Buffer {
  const offsets = image.blobs.map(chunkOffsets);
  const placed = new Map<TestNode, Placed>();
  const order: Placed[] = [];
  place(image.root, undefined, placed, order);

  const blobTable = BLOCK * Math.ceil((1408 + image.blobs.length * 128) / BLOCK);
  const prefetchTable = blobTable + image.blobs.length * 256;
  const metaBlock = Math.ceil((prefetchTable + 4 * (image.prefetch?.length ?? 0)) / BLOCK);
  let at = metaBlock * BLOCK + 32 * 128;
  for (const p of order) {
    const length = headSize(p.node) + p.xattrs.length;
    const tail = p.data.length % BLOCK;
    const inline = isInline(p);
    if (inline && (at % BLOCK) + length + tail > BLOCK) at = Math.ceil(at / BLOCK) * BLOCK;
    p.at = at;
    p.nid = (at - metaBlock * BLOCK) / 32;
    const addresses = (p.node.chunks?.length ?? 0) * 8;
    at = Math.ceil((at + length + (inline ? tail : Math.ceil(length / 8) * 8 - length + addresses)) / 32) * 32;
  }
  let block = Math.ceil(at / BLOCK);
  for (const p of order) {
    p.plainBlock = block;
    block += isInline(p) ? Math.floor(p.data.length / BLOCK) : Math.ceil(p.data.length / BLOCK);
  }
  const chunkTable = block * BLOCK;
  const chunkCount = image.blobs.reduce((sum, blob) => sum + blob.chunks.length, 0);
  const size = Math.ceil((chunkTable + chunkCount * 80) / BLOCK) * BLOCK;

  const out = Buffer.alloc(size);
  out.writeUInt32LE(0xe0f5e1e2, 1024);
  out.writeUInt32LE(0x40000000, 1024 + 8);
  out[1024 + 12] = 12;
  out.writeUInt16LE(placed.get(image.root)!.nid, 1024 + 14);
  out.writeUInt32LE(order.length, 1024 + 16);
  out.writeUInt32LE(metaBlock, 1024 + 40);
  out.writeUInt32LE(0xc, 1024 + 80);
  out.writeUInt16LE(image.blobs.length, 1024 + 86);
  out.writeUInt16LE(11, 1024 + 88);
  out.writeUInt32LE(0x80 | 0x4 | 0x10 | 0x100, 1152);
  out.writeUInt32LE(blobTable, 1152 + 8);
  out.writeUInt32LE(image.blobs.length * 256, 1152 + 16);
  out.writeUInt32LE(image.chunkSize, 1152 + 20);
  out.writeUInt32LE(chunkTable, 1152 + 24);
  out.writeUInt32LE(chunkCount * 80, 1152 + 32);
  out.writeUInt32LE(prefetchTable, 1152 + 40);
  out.writeUInt32LE(4 * (image.prefetch?.length ?? 0), 1152 + 48);
  image.prefetch?.forEach((node, i) => {
    out.writeUInt32LE(placed.get(node)!.nid, prefetchTable + 4 * i);
  });
  writeBlobs(out, image, offsets, blobTable, chunkTable, size);
  for (const p of order) {
    if (p.node.children !== undefined) p.data = directoryData(p, placed);
    writeInode(out, p, image, offsets);
  }
  return out;
}

function place(node: TestNode, parent: Placed | undefined, placed: Map<TestNode, Placed>, order: Placed[]): void {
  const p = {
    node,
    nid: 0,
    at: 0,
    plainBlock: 0,
    xattrs: xattrArea(node),
    data: node.target ?? Buffer.alloc(0),
  } as Placed;
  p.parent = parent ?? p;
  placed.set(node, p);
  order.push(p);
  if (node.children === undefined) return;
  p.data = directoryData(p, undefined);
  for (const child of node.children) if (child.linkTo === undefined) place(child, p, placed, order);
}

const headSize = (node: TestNode) => (node.compact ? 32 : 64);

function isInline(p: Placed): boolean {
  const tail = p.data.length % BLOCK;
  return tail > 0 && headSize(p.node) + p.xattrs.length + tail <= BLOCK;
}

function xattrArea(node: TestNode): Buffer {
  if (node.xattrs === undefined || node.xattrs.length === 0) return Buffer.alloc(0);
  const parts = [Buffer.alloc(12)];
  for (const [index, suffix, value] of node.xattrs) {
    const header = Buffer.from([suffix.length, index, value.length & 0xff, value.length >> 8]);
    const entry = Buffer.concat([header, Buffer.from(suffix), value]);
    parts.push(entry, Buffer.alloc((4 - (entry.length % 4)) % 4));
  }
  return Buffer.concat(parts);
}

/** Without inode numbers in the first pass, which only asks for the size. */
function directoryData(p: Placed, placed: Map<TestNode, Placed> | undefined): Buffer {
  const names: { name: Buffer; nid: number; type: number }[] = p.node.children!.map((child) => ({
    name: Buffer.from(child.name),
    nid: placed?.get(child.linkTo ?? child)?.nid ?? 0,
    type: TYPES[(child.linkTo ?? child).mode >> 12],
  }));
  names.push({ name: Buffer.from('.'), nid: p.nid, type: 2 }, { name: Buffer.from('..'), nid: p.parent.nid, type: 2 });
  names.sort((a, b) => Buffer.compare(a.name, b.name));
  const blocks: Buffer[] = [];
  for (let i = 0; i < names.length; ) {
    let end = i;
    let used = 0;
    while (end < names.length && used + ENTRY + names[end].name.length <= BLOCK) {
      used += ENTRY + names[end].name.length;
      end++;
    }
    const block = Buffer.alloc(end < names.length ? BLOCK : used);
    let nameAt = (end - i) * ENTRY;
    for (let k = i; k < end; k++) {
      const entry = (k - i) * ENTRY;
      block.writeUInt32LE(names[k].nid, entry);
      block.writeUInt16LE(nameAt, entry + 8);
      block[entry + 10] = names[k].type;
      nameAt += names[k].name.copy(block, nameAt);
    }
    blocks.push(block);
    i = end;
  }
  return Buffer.concat(blocks);
}

function writeInode(out: Buffer, p: Placed, image: TestImage, offsets: number[][]): void {
  const { node, at } = p;
  const regular = node.mode >> 12 === 8;
  const size = regular ? (node.size ?? 0) : p.data.length;
  const layout = regular ? 4 : isInline(p) ? 2 : 0;
  out.writeUInt16LE((node.compact ? 0 : 1) | (layout << 1), at);
  out.writeUInt16LE(p.xattrs.length === 0 ? 0 : (p.xattrs.length - 12) / 4 + 1, at + 2);
  out.writeUInt16LE(node.mode, at + 4);
  const union = regular ? 0x20 | (node.kernelBits ?? kernelBits(node, image, offsets)) : (node.rdev ?? p.plainBlock);
  out.writeUInt32LE(union, at + 16);
  if (node.compact) {
    out.writeUInt16LE(node.nlink ?? 1, at + 6);
    out.writeUInt32LE(size, at + 8);
    out.writeUInt16LE(node.uid ?? 0, at + 24);
    out.writeUInt16LE(node.gid ?? 0, at + 26);
  } else {
    out.writeBigUInt64LE(BigInt(size), at + 8);
    out.writeUInt32LE(node.uid ?? 0, at + 24);
    out.writeUInt32LE(node.gid ?? 0, at + 28);
    out.writeBigInt64LE(BigInt(node.mtime ?? 0), at + 32);
    out.writeUInt32LE(node.mtimeNs ?? 0, at + 40);
    out.writeUInt32LE(node.nlink ?? 1, at + 44);
  }
  const body = at + headSize(node);
  p.xattrs.copy(out, body);
  const plain = layout === 2 ? Math.floor(p.data.length / BLOCK) * BLOCK : p.data.length;
  p.data.copy(out, p.plainBlock * BLOCK, 0, plain);
  p.data.copy(out, body + p.xattrs.length, plain);
  let address = Math.ceil((body + p.xattrs.length) / 8) * 8;
  for (const [blob, chunk] of node.chunks ?? []) {
    out.writeUInt16LE(chunk & 0xffff, address);
    out.writeUInt16LE((blob + 1) | ((chunk >> 16) << 8), address + 2);
    out.writeUInt32LE(offsets[blob][chunk] / BLOCK, address + 4);
    address += 8;
  }
}

/** As the upstream builder: one kernel chunk for the whole file where its data is contiguous. */
function kernelBits(node: TestNode, image: TestImage, offsets: number[][]): number {
  let bits = Math.log2(image.chunkSize / BLOCK);
  const chunks = node.chunks ?? [];
  const contiguous = chunks.every(
    ([blob, chunk], k) =>
      k === 0 ||
      (blob === chunks[k - 1][0] && offsets[blob][chunk] === offsets[blob][chunks[k - 1][1]] + image.chunkSize),
  );
  if (contiguous) while (BLOCK * 2 ** bits < (node.size ?? 0)) bits++;
  return bits;
}

function writeBlobs(
  out: Buffer,
  image: TestImage,
  offsets: number[][],
  blobTable: number,
  chunkTable: number,
  size: number,
): void {
  let record = chunkTable;
  image.blobs.forEach((blob, i) => {
    const end = offsets[i][blob.chunks.length];
    const stored = blob.chunks.reduce((max, chunk) => Math.max(max, chunk.storedOffset + chunk.stored), 0);
    const slot = 1408 + i * 128;
    out.write(blob.id, slot, 'latin1');
    out.writeUInt32LE(end / BLOCK, slot + 64);
    out.writeUInt32LE(size / BLOCK, slot + 68);
    const entry = blobTable + i * 256;
    out.write(blob.id, entry, 'latin1');
    out.writeUInt32LE(i, entry + 64);
    out.writeUInt32LE(image.chunkSize, entry + 68);
    out.writeUInt32LE(blob.chunks.length, entry + 72);
    out.writeUInt32LE(blob.compressor, entry + 76);
    out.writeUInt32LE(blob.digester, entry + 80);
    out.writeUInt32LE(blob.features, entry + 84);
    out.writeBigUInt64LE(BigInt(stored), entry + 88);
    out.writeBigUInt64LE(BigInt(end), entry + 96);
    out.writeBigUInt64LE(BigInt(stored + 512), entry + 112);
    blob.chunks.forEach((chunk, k) => {
      out.writeUInt32LE(i * 1000003 + k + 1, record);
      out.writeUInt32LE(i, record + 32);
      out.writeUInt32LE(chunk.compressed ? 1 : 0, record + 36);
      out.writeUInt32LE(chunk.stored, record + 40);
      out.writeUInt32LE(chunk.size, record + 44);
      out.writeBigUInt64LE(BigInt(chunk.storedOffset), record + 48);
      out.writeBigUInt64LE(BigInt(offsets[i][k]), record + 56);
      out.writeUInt32LE(k, record + 72);
      record += 80;
    });
  });
}
