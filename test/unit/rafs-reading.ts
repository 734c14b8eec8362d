/** Reads whole trees for tests: manifest rows from a bootstrap, file contents through the tables and a local blob. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { decrypt } from '../../src/codec/decrypt.ts';
import { digestEquals, digestOf } from '../../src/codec/digest.ts';
import { decodeFrame } from '../../src/codec/frame.ts';
import { inflateFrom } from '../../src/codec/inflate.ts';
import {
  type Inode,
  LAYOUT_CHUNK_BASED,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/erofs/inode.ts';
import { readSymlink, walkTree } from '../../src/erofs/walk.ts';
import { readXattrs } from '../../src/erofs/xattr.ts';
import { type Bootstrap, openBootstrap, readImage } from '../../src/formats/rafs/bootstrap.ts';
import { eachChunk } from '../../src/formats/rafs/chunk-addresses.ts';
import { chunkInfoFromBlob, chunkInfoRange } from '../../src/formats/rafs/chunk-info.ts';
import type { BlobRecords } from '../../src/formats/rafs/chunk-records.ts';
import type { BuiltImage } from '../../src/formats/rafs/write/build.ts';
import { type Blob, CODECS, type DigestAlgorithm, type Image } from '../../src/image/image.ts';
import { type Row, show } from '../manifest/rows.ts';

/** Bytes `[offset, offset + length)` of a blob's object. */
export type ReadStored = (blobId: string, offset: number, length: number) => Uint8Array;

/** Opens what was built with its blobs in the folder `blobs`; the tables are checked ({@link checkImage}). */
export function openBuilt(built: BuiltImage, blobs: string): { opened: Bootstrap; image: Image; read: ReadStored } {
  const objects = new Map(built.blobs.map(({ id }) => [id, readFileSync(join(blobs, id))]));
  const read: ReadStored = (id, offset, length) => objects.get(id)!.subarray(offset, offset + length);
  const opened = openBootstrap(readFileSync(built.bootstrap));
  const chunkInfo = new Map(
    opened.blobs
      .filter((blob) => blob.needsChunkInfo)
      .map((blob) => {
        const { offset, length } = chunkInfoRange(blob);
        return [blob.id, chunkInfoFromBlob(blob, read(blob.id, offset, length))] as const;
      }),
  );
  const { image } = readImage(opened, { chunkInfo });
  checkImage(image);
  return { opened, image, read };
}

/** Rows of the whole tree by path (as JSON). With `read`, `sha256` of each regular file, its chunks verified. */
export function rowsOf(bootstrap: Bootstrap, image: Image, read?: ReadStored): Map<string, Row> {
  const { erofs } = bootstrap;
  const rows = new Map<string, Row>();
  const digests = new Map<number, string>();
  const records = bootstrap.records();
  walkTree(erofs, (visit) => {
    const { inode } = visit;
    const row: Row = {
      path: show(visit.path()),
      mode: `0o${inode.mode.toString(8)}`,
      uid: inode.uid,
      gid: inode.gid,
    };
    if (visit.parent >= 0) row.mtime = inode.mtime < 0 && inode.mtimeNs > 0 ? inode.mtime + 1 : inode.mtime;
    const type = inode.mode & S_IFMT;
    if (type !== S_IFDIR) row.nlink = inode.nlink;
    if (type === S_IFREG) row.size = inode.size;
    if (type === S_IFLNK) row.target = show(readSymlink(erofs, inode));
    if (type === S_IFCHR || type === S_IFBLK) row.rdev = deviceNumber(inode.union);
    const xattrs = readXattrs(erofs, inode);
    if (xattrs.length > 0) {
      row.xattrs = Object.fromEntries(
        xattrs.map(({ name, value }) => [name.toString(), Buffer.from(value).toString('base64')]),
      );
    }
    if (type === S_IFREG && read !== undefined) {
      if (visit.first) digests.set(inode.nid, sha256OfFile(bootstrap, image, records, inode, read));
      row.sha256 = digests.get(inode.nid);
    }
    rows.set(JSON.stringify(row.path), row);
  });
  return rows;
}

function sha256OfFile(
  bootstrap: Bootstrap,
  image: Image,
  records: readonly BlobRecords[],
  inode: Inode,
  read: ReadStored,
): string {
  const hash = createHash('sha256');
  if (inode.layout === LAYOUT_CHUNK_BASED) {
    let end = 0;
    const zerosTo = (position: number) => hash.update(Buffer.alloc(position - end));
    const { chunkSize } = image;
    const update = (blob: number, chunk: number, k: number) => {
      zerosTo(k * chunkSize);
      const bytes = readChunk(image.blobs[blob], chunk, read);
      hash.update(bytes);
      end = k * chunkSize + bytes.length;
    };
    eachChunk(bootstrap.erofs, inode, chunkSize, records, update, image.format === 'rafs-v5');
    zerosTo(inode.size);
  }
  return hash.digest('hex');
}

/** One chunk, decoded from its frame and verified. */
export function readChunk(blob: Blob, chunk: number, read: ReadStored): Uint8Array {
  const { chunks } = blob;
  const frame = chunks.frame[chunk];
  const decoded = readFrame(blob, frame, read);
  const start = chunks.frameOffset[chunk];
  const bytes = decoded.subarray(start, start + chunks.size[chunk]);
  if (!digestEquals(chunks.digest, chunk, digestOf(blob.digestAlgorithm as DigestAlgorithm, bytes))) {
    throw new Error(`chunk ${chunk} of blob ${blob.id} has another digest`);
  }
  return bytes;
}

/** Decoded frames of gzip streams by blob and frame: each holds many chunks. */
const inflated = new WeakMap<Blob, Map<number, Uint8Array>>();

function readFrame(blob: Blob, frame: number, read: ReadStored): Uint8Array {
  const { frames, cipher } = blob;
  const size = frames.decodedSize[frame];
  const codec = CODECS[frames.codec[frame]];
  if (frames.contexts === undefined) {
    const stored = read(blob.id, frames.offset[frame], frames.size[frame]);
    return decodeFrame(codec, cipher ? decrypt(cipher, stored, codec === 'none' ? size : undefined) : stored, size);
  }
  const known = inflated.get(blob) ?? new Map<number, Uint8Array>();
  inflated.set(blob, known);
  let decoded = known.get(frame);
  if (decoded === undefined) {
    const { contexts } = frames;
    const offset = contexts.dictionaryOffset[frame];
    const dictionary = blob.dictionaries!.subarray(offset, offset + contexts.dictionarySize[frame]);
    const start = { bits: contexts.bits[frame], value: contexts.value[frame], dictionary };
    decoded = inflateFrom(start, read(blob.id, frames.offset[frame], frames.size[frame]), size);
    known.set(frame, decoded);
  }
  return decoded;
}

/** `[major, minor]` of the kernel's 32-bit device number. */
function deviceNumber(device: number): [number, number] {
  return [(device >>> 8) & 0xfff, (device & 0xff) | ((device >>> 12) & 0xfff00)];
}

/** Everything that the contract promises of an image's tables; throws where it does not hold. */
export function checkImage(image: Image): void {
  const fail = (why: string): never => {
    throw new Error(`broken image: ${why}`);
  };
  for (const blob of image.blobs) {
    const { chunks, frames } = blob;
    if (blob.size % 4096 !== 0) fail('size');
    let end = 0;
    const limit = frames.contexts === undefined ? image.chunkSize : 32 << 20;
    for (let i = 0; i < frames.count; i++) {
      if (i > 0 && frames.offset[i] <= frames.offset[i - 1]) fail(`frame ${i}`);
      // With contexts, no more than four over one byte.
      const before = frames.contexts === undefined ? i - 1 : i - 4;
      if (before >= 0 && frames.offset[i] < frames.offset[before] + frames.size[before]) fail(`frame ${i}`);
      if (frames.size[i] < 1 || frames.decodedSize[i] < 1 || frames.decodedSize[i] > limit) fail(`frame ${i}`);
      if (frames.codec[i] >= CODECS.length) fail(`frame ${i}`);
      end = Math.max(end, frames.offset[i] + frames.size[i]);
    }
    if (end > blob.storedSize) fail('frames outside the data');
    let free = 0;
    for (let i = 0; i < chunks.count; i++) {
      if (chunks.offset[i] < free || chunks.offset[i] % 4096 !== 0 || chunks.size[i] < 1) fail(`chunk ${i}`);
      if (chunks.frame[i] >= frames.count) fail(`frame of chunk ${i}`);
      if (chunks.frameOffset[i] + chunks.size[i] > frames.decodedSize[chunks.frame[i]]) fail(`place of chunk ${i}`);
      free = chunks.offset[i] + chunks.size[i];
    }
    if (free > blob.size || chunks.digest.length !== chunks.count * 32) fail('chunks outside the blob');
  }
  if (image.prefetch === 'all') return;
  for (const { blob, offset, length } of image.prefetch) {
    if (length < 1 || offset < 0 || offset + length > image.blobs[blob].size) fail('prefetch range');
  }
}
