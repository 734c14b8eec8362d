/** A ZRAN image as `nydusify convert --oci-ref` makes it, from a gzip layer of our own: an OCI layout with both. */
import { hash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { digestOf } from '../src/codec/digest.ts';
import { tarHeader, tarOf } from '../src/formats/rafs/write/tar.ts';
import { BLOCK_SIZE } from '../src/image/image.ts';
import { buildBootstrap, type TestNode } from './unit/rafs-builder.ts';
import { flatOffsets, makeContexts, type Piece, type ZranStream } from './zran.ts';

export interface ZranImageOptions {
  /** Stored bytes from which on a new context begins. */
  distance: number;
  chunkSize: number;
  /** The meta object ends with a ToC. */
  toc?: boolean;
  /** The bootstrap layer holds the chunk information: nobody has to ask for it. */
  metaInLayer?: boolean;
  /** Makes the gzip layer of a tar; by default one member. */
  compress?: (tar: Buffer) => Buffer;
}

export interface ZranImage {
  layout: string;
  tag: string;
  stream: ZranStream;
  bootstrap: Buffer;
  /** The object with the chunk information. */
  meta: Buffer;
  /** `image/<id>.blob.meta`. */
  layerMeta: Buffer;
  /** Hex: of the gzip layer, and of the meta object. */
  id: string;
  metaId: string;
}

const FEATURES = 0x4000001d;
const WITH_TOC = 0x30000020;
const HEADER_MAGIC = 0xb10bb10b;
const FILE = 0o100644;
const DIRECTORY = 0o40755;

/**
 * Makes the image in `layout`, beside what is there.
 * @param files names of one part each, ascending
 */
export function makeZranImage(
  layout: string,
  tag: string,
  files: readonly { name: string; content: Buffer }[],
  options: ZranImageOptions,
): ZranImage {
  const { distance, chunkSize, compress = (tar) => gzipSync(tar) } = options;
  const gzip = compress(tarOf(files));
  const { pieces, nodes } = pieceFiles(files, chunkSize);
  const stream = makeContexts(gzip, pieces, distance);
  const id = hash('sha256', gzip);
  mkdirSync(join(layout, 'blobs', 'sha256'), { recursive: true });
  writeFileSync(join(layout, 'blobs', 'sha256', id), gzip);
  const digests = Buffer.concat(
    pieces.map(({ offset, size }) => digestOf('sha256', stream.content.subarray(offset, offset + size))),
  );
  const layer = { id, size: gzip.length, digests, pieces, contexts: stream.contexts, contextOf: stream.contextOf };
  return { ...writeZranImage(layout, tag, nodes, layer, options), layout, tag, stream, id };
}

/** A gzip layer as far as the image over it goes. */
export interface ZranLayer extends Pick<ZranStream, 'pieces' | 'contexts' | 'contextOf'> {
  /** SHA-256 of the layer in hex, and its bytes. */
  id: string;
  size: number;
  /** SHA-256 of each piece. */
  digests: Buffer;
}

/**
 * Makes the image over a layer that is in `layout` already.
 * @param nodes the root directory's
 */
export function writeZranImage(
  layout: string,
  tag: string,
  nodes: TestNode[],
  layer: ZranLayer,
  options: Pick<ZranImageOptions, 'chunkSize' | 'toc' | 'metaInLayer'>,
): Pick<ZranImage, 'bootstrap' | 'meta' | 'layerMeta' | 'metaId'> {
  const { chunkSize, toc = false, metaInLayer = true } = options;
  const { id, pieces } = layer;
  const features = toc ? FEATURES + WITH_TOC : FEATURES;
  const info = encodeChunkInfo(layer, features, toc);
  const metaId = hash('sha256', info.object);
  const bootstrap = buildBootstrap({
    root: { name: '', mode: DIRECTORY, nlink: 2, children: nodes },
    chunkSize,
    blobs: [
      {
        id,
        features,
        compressor: 2,
        digester: 1,
        chunks: pieces.map(({ size }) => ({ size, stored: 1, compressed: true, storedOffset: 0 })),
      },
    ],
    prefetch: [],
  });
  patchBootstrap(bootstrap, layer, info, metaId);

  const objects = join(layout, 'blobs', 'sha256');
  const put = (bytes: Buffer, mediaType: string, annotations?: Record<string, string>) => {
    const digest = hash('sha256', bytes);
    writeFileSync(join(objects, digest), bytes);
    return { mediaType, digest: `sha256:${digest}`, size: bytes.length, annotations };
  };
  const tar = tarOf([
    { name: 'image/', content: null },
    { name: 'image/image.boot', content: bootstrap },
    ...(metaInLayer ? [{ name: `image/${metaId}.blob.meta`, content: info.layerMeta }] : []),
  ]);
  const prefix = 'containerd.io/snapshot/nydus-';
  const manifest = {
    schemaVersion: 2,
    mediaType: 'application/vnd.oci.image.manifest.v1+json',
    config: put(Buffer.from('{"architecture":"amd64","os":"linux"}'), 'application/vnd.oci.image.config.v1+json'),
    layers: [
      put(info.object, 'application/vnd.oci.image.layer.nydus.blob.v1', {
        [`${prefix}blob`]: 'true',
        [`${prefix}ref`]: `sha256:${id}`,
      }),
      put(gzipSync(tar), 'application/vnd.oci.image.layer.v1.tar+gzip', {
        [`${prefix}bootstrap`]: 'true',
        [`${prefix}fs-version`]: '6',
      }),
    ],
  };
  const descriptor = put(Buffer.from(JSON.stringify(manifest)), manifest.mediaType, {
    'org.opencontainers.image.ref.name': tag,
  });
  const index = join(layout, 'index.json');
  const others = existsSync(index) ? JSON.parse(readFileSync(index, 'utf8')).manifests : [];
  writeFileSync(index, JSON.stringify({ schemaVersion: 2, manifests: [...others, descriptor] }));
  writeFileSync(join(layout, 'oci-layout'), '{"imageLayoutVersion":"1.0.0"}');
  return { bootstrap, meta: info.object, layerMeta: info.layerMeta, metaId };
}

/** Cuts the files into chunks, where they are in the tar. */
function pieceFiles(files: readonly { name: string; content: Buffer }[], chunkSize: number) {
  const pieces: Piece[] = [];
  const nodes: TestNode[] = [];
  let at = 0;
  for (const { name, content } of files) {
    at += 512;
    const first = pieces.length;
    for (let offset = 0; offset < content.length; offset += chunkSize)
      pieces.push({ offset: at + offset, size: Math.min(chunkSize, content.length - offset) });
    const chunks = pieces.slice(first).map((_, i): [number, number] => [0, first + i]);
    nodes.push({ name, mode: FILE, size: content.length, chunks });
    at += Math.ceil(content.length / 512) * 512;
  }
  return { pieces, nodes };
}

function encodeChunkInfo({ size: layerSize, pieces, contexts, contextOf }: ZranLayer, features: number, toc: boolean) {
  const offsets = flatOffsets(pieces);
  const entries = Buffer.alloc(pieces.length * 24);
  for (const [i, { offset, size }] of pieces.entries()) {
    const context = contexts[contextOf[i]];
    entries.writeUInt32LE(offsets[i] / BLOCK_SIZE, i * 24);
    entries.writeUInt32LE(((3 << 24) | (size - 1)) >>> 0, i * 24 + 4);
    // Where it is in the stream is only an estimate: readers go by the context.
    entries.writeBigUInt64LE((BigInt(Math.min(size, layerSize)) << 40n) | BigInt(context.start.offset), i * 24 + 8);
    entries.writeUInt32LE(offset - context.start.decoded, i * 24 + 16);
    entries.writeUInt32LE(contextOf[i], i * 24 + 20);
  }
  const rows = Buffer.alloc(contexts.length * 40);
  let dictionaryAt = 0;
  for (const [i, { start, size, decodedSize, dictionary }] of contexts.entries()) {
    rows.writeBigUInt64LE(BigInt(start.offset), i * 40);
    rows.writeBigUInt64LE(BigInt(start.decoded), i * 40 + 8);
    rows.writeBigUInt64LE(BigInt(dictionaryAt), i * 40 + 16);
    rows.writeUInt32LE(size, i * 40 + 24);
    rows.writeUInt32LE(decodedSize, i * 40 + 28);
    rows.writeUInt32LE(dictionary.length, i * 40 + 32);
    rows[i * 40 + 36] = start.bits === 0 ? 0 : start.byte;
    rows[i * 40 + 37] = start.bits;
    dictionaryAt += dictionary.length;
  }
  const array = Buffer.concat([entries, rows, ...contexts.map(({ dictionary }) => dictionary)]);
  const stored = zstdCompressSync(array);
  const header = Buffer.alloc(4096);
  header.writeUInt32LE(HEADER_MAGIC, 0);
  header.writeUInt32LE(features, 4);
  header.writeUInt32LE(3, 8);
  header.writeUInt32LE(pieces.length, 12);
  header.writeBigUInt64LE(BigInt(stored.length), 24);
  header.writeBigUInt64LE(BigInt(array.length), 32);
  header.writeBigUInt64LE(BigInt(entries.length), 40);
  header.writeBigUInt64LE(BigInt(array.length - entries.length), 48);
  header.writeUInt32LE(contexts.length, 56);
  header.writeUInt32LE(HEADER_MAGIC, 4092);
  const layerMeta = Buffer.concat([array, Buffer.alloc(-array.length & 4095), header]);
  const parts: Buffer[] = [stored, header];
  let tocBytes = Buffer.alloc(0);
  if (toc) {
    const members = [
      tocEntry(2, 'blob.meta', array, 0, stored.length),
      tocEntry(1, 'blob.meta.header', header, stored.length, header.length),
    ];
    tocBytes = Buffer.concat([...members, tarHeader('rafs.blob.toc', members.length * 128)]);
    parts.push(tarHeader('blob.meta', stored.length + header.length), tocBytes);
  }
  return { object: Buffer.concat(parts), layerMeta, array, stored, tocBytes };
}

function tocEntry(flags: number, name: string, content: Buffer, offset: number, stored: number): Buffer {
  const entry = Buffer.alloc(128);
  entry.writeUInt32LE(flags, 0);
  entry.write(name, 8, 'latin1');
  entry.set(digestOf('sha256', content), 24);
  entry.writeBigUInt64LE(BigInt(offset), 56);
  entry.writeBigUInt64LE(BigInt(stored), 64);
  entry.writeBigUInt64LE(BigInt(content.length), 72);
  return entry;
}

function patchBootstrap(
  bootstrap: Buffer,
  { size: layerSize, digests }: ZranLayer,
  info: ReturnType<typeof encodeChunkInfo>,
  metaId: string,
): void {
  // gzip, sha256, explicit owners.
  bootstrap.writeUInt32LE(0x40 | 0x8 | 0x10, 1152);
  const entry = Number(bootstrap.readBigUInt64LE(1152 + 8));
  bootstrap.writeBigUInt64LE(BigInt(layerSize), entry + 88);
  bootstrap.writeUInt32LE(info.tocBytes.length, entry + 104);
  bootstrap.writeUInt32LE(3, entry + 108);
  bootstrap.writeBigUInt64LE(0n, entry + 112);
  bootstrap.writeBigUInt64LE(BigInt(info.stored.length), entry + 120);
  bootstrap.writeBigUInt64LE(BigInt(info.array.length), entry + 128);
  if (info.tocBytes.length > 0) bootstrap.set(digestOf('sha256', info.tocBytes), entry + 136);
  bootstrap.write(metaId, entry + 168, 'hex');
  bootstrap.writeBigUInt64LE(BigInt(info.object.length), entry + 200);
  const records = Number(bootstrap.readBigUInt64LE(1152 + 24));
  for (let i = 0; i * 32 < digests.length; i++) bootstrap.set(digests.subarray(i * 32, i * 32 + 32), records + i * 80);
}
