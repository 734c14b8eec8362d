/** Builds small RAFS v5 images for tests, as upstream builders lay them out, with knobs for what they do rarely. */
import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { compressSync as lz4CompressSync } from 'lz4-napi';
import { digestOf } from '../../src/codec/digest.ts';
import type { Codec, DigestAlgorithm } from '../../src/image/image.ts';

export interface NodeV5 {
  name: string | Buffer;
  /** Type and permission bits. */
  mode: number;
  uid?: number;
  gid?: number;
  mtime?: number;
  mtimeNs?: number;
  nlink?: number;
  rdev?: number;
  /** Of a regular file. */
  content?: Buffer;
  /** Chunks of the content that are holes. */
  holes?: number[];
  /** The blob of a file's chunks. */
  blob?: number;
  children?: NodeV5[];
  target?: Buffer;
  xattrs?: [string, Buffer][];
  /** The inode that this name stands for, too. */
  linkTo?: NodeV5;
}

export interface OptionsV5 {
  chunkSize?: number;
  codec?: Codec;
  digester?: DigestAlgorithm;
  /** Chunks at multiples of 4 KiB. */
  aligned?: boolean;
  /** Whether aligned blobs say so: builders keep it to themselves. */
  alignedFlag?: boolean;
  /** Whether there is an extended blob table. */
  extended?: boolean;
  /** Whether chunks know their index in the blob; the first builders left 0. */
  numbered?: boolean;
  /** Bits to add to the features of blobs. */
  features?: number;
  prefetch?: NodeV5[];
  /** Each blob carries the bootstrap at its end: then its id is the placeholder. Of one blob only. */
  inline?: boolean;
  /** Bytes behind the last entry of the blob table. */
  padding?: number;
}

/** Where an inode is. */
export interface PlaceV5 {
  /** Position in the inode table, from 1. */
  index: number;
  /** Byte offsets of its record, and of its first chunk record. */
  at: number;
  chunks: number;
}

export interface ImageV5 {
  bootstrap: Buffer;
  /** Objects by blob id. */
  blobs: Map<string, Buffer>;
  place(node: NodeV5): PlaceV5;
}

interface Chunk {
  digest: Buffer;
  blob: number;
  flags: number;
  stored: number;
  size: number;
  storedOffset: number;
  offset: number;
  index: number;
}

interface BlobDraft {
  parts: Buffer[];
  stored: number;
  end: number;
  chunks: Map<string, Chunk>;
}

interface Draft extends PlaceV5 {
  node: NodeV5;
  parent?: Draft;
  ino: number;
  chunkList: Chunk[];
  digest: Buffer;
  children: Draft[];
}

export const RECORD_SIZE_V5 = 80;
const SUPER_BLOCK_SIZE = 8192;
const HEAD_SIZE = 128;
const COMPRESSOR_FLAGS: Record<Codec, number> = { none: 1, lz4_block: 2, gzip: 0x40, zstd: 0x80 };
const CHUNK_INFO_V2 = 0x4;
const CAP_TAR_TOC = 0x40000000;
const HAS_TAR_HEADER = 0x10000000;

const align = (value: number, to: number) => Math.ceil(value / to) * to;

function encode(codec: Codec, content: Buffer): Buffer {
  switch (codec) {
    case 'none':
      return content;
    case 'lz4_block':
      return Buffer.from(lz4CompressSync(content).subarray(4));
    case 'gzip':
      return gzipSync(content);
    case 'zstd':
      return zstdCompressSync(content);
  }
}

export function buildV5(root: NodeV5, options: OptionsV5 = {}): ImageV5 {
  const { chunkSize = 1 << 20, codec = 'zstd', digester = 'blake3', aligned = false, numbered = true } = options;
  const { extended = true, padding = 0, inline = false } = options;
  const blobs: BlobDraft[] = [];
  const drafts = new Map<NodeV5, Draft>();
  const order: Draft[] = [];

  const digest = (bytes: Buffer): Buffer => Buffer.from(digestOf(digester, bytes));

  function chunksOf({ content = Buffer.alloc(0), holes = [], blob = 0 }: NodeV5): Chunk[] {
    while (blobs.length <= blob) blobs.push({ parts: [], stored: 0, end: 0, chunks: new Map() });
    const into = blobs[blob];
    const list: Chunk[] = [];
    for (let at = 0, k = 0; at < content.length; at += chunkSize, k++) {
      const bytes = content.subarray(at, at + chunkSize);
      const own = { digest: digest(bytes), blob, size: bytes.length };
      if (holes.includes(k)) {
        list.push({ ...own, flags: 2, stored: 0, storedOffset: 0, offset: 0, index: 0 });
        continue;
      }
      const key = own.digest.toString('hex');
      let chunk = into.chunks.get(key);
      if (chunk === undefined) {
        const encoded = encode(codec, bytes);
        const stored = encoded.length < bytes.length || codec === 'gzip' ? encoded : bytes;
        chunk = {
          ...own,
          flags: stored === bytes ? 0 : 1,
          stored: stored.length,
          storedOffset: into.stored,
          offset: into.end,
          index: numbered ? into.chunks.size : 0,
        };
        into.chunks.set(key, chunk);
        into.parts.push(stored);
        into.stored += stored.length;
        into.end = aligned ? align(into.end + bytes.length, 4096) : into.end + bytes.length;
      }
      list.push(chunk);
    }
    return list;
  }

  // Table positions go breadth-first per directory.
  const add = (node: NodeV5, parent?: Draft): Draft => {
    const draft: Draft = {
      node,
      parent,
      index: order.length + 1,
      ino: 0,
      at: 0,
      chunks: 0,
      chunkList: [],
      digest: Buffer.alloc(32),
      children: [],
    };
    drafts.set(node, draft);
    order.push(draft);
    return draft;
  };
  add(root);
  for (let i = 0; i < order.length; i++) {
    const { node } = order[i];
    const children = (node.children ?? []).toSorted((a, b) => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name)));
    order[i].children = children.map((child) => add(child, order[i]));
  }
  const numbers = new Map<NodeV5, number>();
  for (const draft of order) {
    const holder = draft.node.linkTo ?? draft.node;
    if (!numbers.has(holder)) numbers.set(holder, draft.index);
    draft.ino = numbers.get(holder)!;
    draft.chunkList = chunksOf(holder);
  }
  for (const draft of order.toReversed()) {
    const { node, children, chunkList } = draft;
    if (node.children !== undefined) draft.digest = digest(Buffer.concat(children.map((child) => child.digest)));
    else draft.digest = digest((node.linkTo ?? node).target ?? Buffer.concat(chunkList.map((chunk) => chunk.digest)));
  }

  const objects = blobs.map((blob) => Buffer.concat(blob.parts));
  const ids = inline ? ['x'.repeat(64)] : objects.map((object) => createHash('sha256').update(object).digest('hex'));
  const inodeTable = SUPER_BLOCK_SIZE;
  const prefetch = options.prefetch ?? [];
  const prefetchTable = align(inodeTable + order.length * 4, 8);
  const blobTable = align(prefetchTable + prefetch.length * 4, 8);
  const blobEntries = Buffer.concat(
    ids.flatMap((id, i) => [Buffer.alloc(i === 0 ? 8 : 9), Buffer.from(id)]).concat(Buffer.alloc(padding)),
  );
  const extendedTable = align(blobTable + blobEntries.length, 8);
  let at = extendedTable + (extended ? ids.length * 64 : 0);
  const records = order.map((draft) => {
    draft.at = at;
    const record = encodeRecord(draft, chunkSize);
    draft.chunks = at + record.length - draft.chunkList.length * RECORD_SIZE_V5;
    at += record.length;
    return record;
  });

  const out = Buffer.alloc(at);
  out.writeUInt32LE(0x52414653, 0);
  out.writeUInt32LE(0x500, 4);
  out.writeUInt32LE(SUPER_BLOCK_SIZE, 8);
  out.writeUInt32LE(chunkSize, 12);
  out.writeUInt32LE(COMPRESSOR_FLAGS[codec] | (digester === 'blake3' ? 0x4 : 0x8) | 0x30, 16);
  out.writeBigUInt64LE(BigInt(new Set(order.map((draft) => draft.ino)).size), 24);
  out.writeBigUInt64LE(BigInt(inodeTable), 32);
  out.writeBigUInt64LE(BigInt(prefetchTable), 40);
  out.writeBigUInt64LE(BigInt(blobTable), 48);
  out.writeUInt32LE(order.length, 56);
  out.writeUInt32LE(prefetch.length, 60);
  out.writeUInt32LE(blobEntries.length, 64);
  out.writeUInt32LE(extended ? ids.length : 0, 68);
  out.writeBigUInt64LE(BigInt(extendedTable), 72);
  for (const draft of order) out.writeUInt32LE(draft.at / 8, inodeTable + (draft.index - 1) * 4);
  for (const [i, node] of prefetch.entries()) out.writeUInt32LE(drafts.get(node)!.index, prefetchTable + i * 4);
  blobEntries.copy(out, blobTable);
  if (extended) {
    let features = CAP_TAR_TOC | (options.features ?? 0);
    if (codec === 'gzip') features |= CHUNK_INFO_V2;
    if (options.alignedFlag) features |= 1;
    if (inline) features |= HAS_TAR_HEADER;
    for (const [i, blob] of blobs.entries()) {
      const entry = extendedTable + i * 64;
      out.writeUInt32LE(blob.chunks.size, entry);
      out.writeUInt32LE(features >>> 0, entry + 4);
      out.writeBigUInt64LE(BigInt(blob.end), entry + 8);
      out.writeBigUInt64LE(BigInt(blob.stored + (inline ? 512 : 0)), entry + 16);
    }
  }
  for (const [i, draft] of order.entries()) records[i].copy(out, draft.at);
  return {
    bootstrap: out,
    blobs: new Map(ids.map((id, i) => [id, objects[i]])),
    place: (node) => drafts.get(node)!,
  };
}

function encodeRecord(draft: Draft, chunkSize: number): Buffer {
  const { node, chunkList, children } = draft;
  const name = Buffer.from(node.name);
  const { target = Buffer.alloc(0), xattrs = [] } = node.linkTo ?? node;
  const source = node.linkTo ?? node;
  const head = Buffer.alloc(HEAD_SIZE);
  draft.digest.copy(head, 0);
  head.writeBigUInt64LE(BigInt(draft.parent?.index ?? 0), 32);
  head.writeBigUInt64LE(BigInt(draft.ino), 40);
  head.writeUInt32LE(source.uid ?? 0, 48);
  head.writeUInt32LE(source.gid ?? 0, 52);
  head.writeUInt32LE(source.mode, 60);
  head.writeBigUInt64LE(BigInt(source.content?.length ?? (target.length || (source.children ? 4096 : 0))), 64);
  head.writeBigUInt64LE(BigInt((target.length > 0 ? 1 : 0) | (xattrs.length > 0 ? 4 : 0)), 80);
  head.writeUInt32LE(source.nlink ?? 1, 88);
  head.writeUInt32LE(children[0]?.index ?? 0, 92);
  head.writeUInt32LE(node.children ? children.length : chunkList.length, 96);
  head.writeUInt16LE(name.length, 100);
  head.writeUInt16LE(target.length, 102);
  // Builders leave something here in inodes that are no devices.
  head.writeUInt32LE(source.rdev ?? 0xffffffff, 104);
  head.writeUInt32LE(source.mtimeNs ?? 0, 108);
  head.writeBigInt64LE(BigInt(source.mtime ?? 0), 112);
  const parts = [head, padded(name), padded(target)];
  if (xattrs.length > 0) {
    const pairs = xattrs.map(([key, value]) => {
      const pair = Buffer.concat([Buffer.alloc(4), Buffer.from(key), Buffer.alloc(1), value]);
      pair.writeUInt32LE(pair.length - 4);
      return pair;
    });
    const area = Buffer.concat(pairs);
    const size = Buffer.alloc(8);
    size.writeUInt32LE(area.length);
    parts.push(size, padded(area));
  }
  for (const [k, chunk] of chunkList.entries()) {
    const record = Buffer.alloc(RECORD_SIZE_V5);
    chunk.digest.copy(record, 0);
    record.writeUInt32LE(chunk.blob, 32);
    record.writeUInt32LE(chunk.flags, 36);
    record.writeUInt32LE(chunk.stored, 40);
    record.writeUInt32LE(chunk.size, 44);
    record.writeBigUInt64LE(BigInt(chunk.storedOffset), 48);
    record.writeBigUInt64LE(BigInt(chunk.offset), 56);
    record.writeBigUInt64LE(BigInt(k * chunkSize), 64);
    record.writeUInt32LE(chunk.index, 72);
    parts.push(record);
  }
  return Buffer.concat(parts);
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(align(bytes.length, 8) - bytes.length)]);
}
