/** Encrypts an image that `nydus-image` or our builder made, as `nydus-image create -E` would have. */
import { createCipheriv, hash, randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openBootstrap, readImage } from '../src/formats/rafs/bootstrap.ts';
import { chunkInfoFromBlob, chunkInfoRange } from '../src/formats/rafs/chunk-info.ts';

const ENTRY = 256;
const RECORD = 80;

/** As nydus `utils/src/crypt.rs`: short data is padded to 18 bytes. */
export function encrypt(key: Uint8Array, iv: Uint8Array, data: Uint8Array): Buffer {
  let padded = Buffer.from(data);
  if (data.length < 16)
    padded = Buffer.concat([data, Buffer.alloc(16 - data.length, 16 - data.length), Buffer.from([0x78, 0x90])]);
  const cipher = createCipheriv('aes-128-xts', key, iv);
  return Buffer.concat([cipher.update(padded), cipher.final()]);
}

/**
 * Writes the encrypted image as a folder: `bootstrap`, `blobs/<id>`.
 * @param bootstrap of an image with one blob, without ToC. @param blob its object
 */
export function encryptImage(bootstrap: Buffer, blob: Buffer, folder: string): void {
  const { id, bootstrap: out, object } = encrypted(bootstrap, blob, randomBytes(32), randomBytes(16));
  mkdirSync(join(folder, 'blobs'), { recursive: true });
  writeFileSync(join(folder, 'bootstrap'), out);
  writeFileSync(join(folder, 'blobs', id), object);
}

/** The same in memory, with a given key and iv. */
export function encrypted(
  bootstrap: Buffer,
  blob: Buffer,
  key: Uint8Array,
  iv: Uint8Array,
): { id: string; bootstrap: Buffer; object: Buffer } {
  const out = Buffer.from(bootstrap);
  const opened = openBootstrap(bootstrap);
  const [entry] = opened.blobs;
  if (opened.blobs.length !== 1 || entry.tocSize > 0) throw new Error('one blob without ToC is what this encrypts');
  const { offset, length } = chunkInfoRange(entry);
  const stored = blob.subarray(offset, offset + length);
  const info = entry.needsChunkInfo ? chunkInfoFromBlob(entry, stored) : undefined;
  const { frames } = readImage(opened, { chunkInfo: new Map(info && [[entry.id, info]]) }).image.blobs[0];

  const parts: Buffer[] = [];
  const places = new Map<number, { offset: number; size: number }>();
  let end = 0;
  for (let i = 0; i < frames.count; i++) {
    const bytes = encrypt(key, iv, blob.subarray(frames.offset[i], frames.offset[i] + frames.size[i]));
    places.set(frames.offset[i], { offset: end, size: bytes.length });
    parts.push(bytes);
    end += bytes.length;
  }
  const at = Number(out.readBigUInt64LE(1152 + 8));
  const array = info ? Buffer.from(info.view.buffer, info.view.byteOffset, info.view.byteLength) : Buffer.alloc(24);
  const header = Buffer.from(stored.subarray(stored.length - 4096));
  if (info) moveChunks(array, info.count, info.contextOffset, places);
  const chunkInfo = encrypt(key, iv, array);
  header.writeUInt32LE(0, 8);
  header.writeBigUInt64LE(BigInt(end), 16);
  header.writeBigUInt64LE(BigInt(chunkInfo.length), 24);
  header.writeBigUInt64LE(BigInt(array.length), 32);
  parts.push(chunkInfo, encrypt(key, iv, header));
  const object = Buffer.concat(parts);
  const id = hash('sha256', object);

  out.write(id, 1408, 'latin1');
  out.write(id, at, 'latin1');
  out.writeUInt32LE((out.readUInt32LE(at + 84) | 0x100) >>> 0, at + 84);
  out.writeBigUInt64LE(BigInt(object.length), at + 88);
  out.writeUInt32LE(0, at + 108);
  out.writeBigUInt64LE(BigInt(end), at + 112);
  out.writeBigUInt64LE(BigInt(chunkInfo.length), at + 120);
  out.writeBigUInt64LE(BigInt(array.length), at + 128);
  out.set(key, at + ENTRY - 88);
  out.set(iv, at + ENTRY - 56);
  out.writeUInt32LE(1, at + 216);
  // The cipher in the super-block, instead of none.
  out.writeUInt32LE(((out.readUInt32LE(1152) & ~0x01000000) | 0x02000000) >>> 0, 1152);
  const table = Number(out.readBigUInt64LE(1152 + 24));
  for (let record = table; record < table + Number(out.readBigUInt64LE(1152 + 32)); record += RECORD) {
    out.writeUInt32LE(out.readUInt32LE(record + 36) | 0x4, record + 36);
    const place = places.get(Number(out.readBigUInt64LE(record + 48)));
    // Members of batches have no stored size.
    if (place === undefined || out.readUInt32LE(record + 40) === 0) continue;
    out.writeUInt32LE(place.size, record + 40);
    out.writeBigUInt64LE(BigInt(place.offset), record + 48);
  }
  return { id, bootstrap: out, object };
}

/** Chunks of the second form and batch contexts, at their new places. */
function moveChunks(
  array: Buffer,
  count: number,
  contexts: number,
  places: ReadonlyMap<number, { offset: number; size: number }>,
): void {
  for (let i = 0; i < count; i++) {
    const word = array.readBigUInt64LE(i * 24 + 8);
    const { offset, size } = places.get(Number(word & 0xff_ffff_ffffn))!;
    const flags = array[i * 24 + 7];
    array[i * 24 + 7] = flags | 8;
    const batch = (flags & 4) !== 0;
    array.writeBigUInt64LE(((batch ? word >> 40n : BigInt(size)) << 40n) | BigInt(offset), i * 24 + 8);
    if (batch) array.writeUInt32LE(size, contexts + array.readUInt32LE(i * 24 + 20) * 40);
  }
}
