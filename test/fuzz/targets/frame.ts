/** Frames of all codecs, encrypted or not: what a chunk is decoded from. */
import { deflateRawSync, gzipSync, zstdCompressSync } from 'node:zlib';
import { compressSync } from 'lz4-napi';
import { decrypt } from '../../../src/codec/decrypt.ts';
import { decodeFrame } from '../../../src/codec/frame.ts';
import { inflateFrom } from '../../../src/codec/inflate.ts';
import { CODECS } from '../../../src/image/image.ts';
import { encrypt } from '../../encrypted-image.ts';
import { ensure, type Target } from '../target.ts';

const CIPHER = { key: Buffer.alloc(32, 'k').fill('K', 16), iv: Buffer.alloc(16, 5) };
const HEAD = 8;
const ENCRYPTED = 0x10;
const IN_MIDST = 4;
const MOST = 16 << 20;

/** The codec and flags, bits of a byte before and their value, the size (u32), the length of a dictionary (u8, in 128 bytes), the frame. */
function input(codec: number, size: number, stored: Uint8Array, bits = 0, value = 0, dictionary = 0): Buffer {
  const head = Buffer.from([codec, bits, value, dictionary, 0, 0, 0, 0]);
  head.writeUInt32LE(size, 4);
  return Buffer.concat([head, stored]);
}

export const target: Target = {
  name: 'frame',
  seeds() {
    const content = Buffer.from(Array.from({ length: 5000 }, (_, i) => (i * 7) ^ (i >> 3)));
    const zeros = Buffer.alloc(4 << 20);
    const [gzip, zstd, lz4] = [
      gzipSync(content),
      zstdCompressSync(content),
      Buffer.from(compressSync(content)).subarray(4),
    ];
    const twoMembers = Buffer.concat([deflateRawSync(content), Buffer.alloc(8), gzip]);
    return [
      input(0, 100, content.subarray(0, 100)),
      input(1, content.length, lz4),
      input(2, content.length, gzip),
      input(3, content.length, zstd),
      input(2, 4096, gzipSync(zeros)),
      input(3, 4096, zstdCompressSync(zeros)),
      input(1, 4096, Buffer.from(compressSync(zeros)).subarray(4)),
      input(3 | ENCRYPTED, content.length, encrypt(CIPHER.key, CIPHER.iv, zstd)),
      input(0 | ENCRYPTED, 5, encrypt(CIPHER.key, CIPHER.iv, Buffer.from('short'))),
      input(IN_MIDST, content.length, deflateRawSync(content)),
      input(IN_MIDST, 2 * content.length, twoMembers),
      input(IN_MIDST, content.length, deflateRawSync(content), 3, 5, 8),
    ];
  },
  limit: 32 << 10,
  memory: 64 << 20,
  native: true,
  share: 0.2,
  run(bytes) {
    const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    if (view.length < HEAD) return 'nothing';
    const size = 1 + (view.readUInt32LE(4) % MOST);
    const stored = view.subarray(HEAD);
    const kind = view[0] & 0xf;
    if (kind === IN_MIDST) {
      const dictionary = stored.subarray(0, view[3] * 128);
      const start = { bits: view[1] & 7, value: view[2] & ((1 << (view[1] & 7)) - 1), dictionary };
      ensure(
        inflateFrom(start, stored.subarray(dictionary.length), size).length === size,
        'another size than promised',
      );
      return 'inflated';
    }
    const codec = CODECS[kind % CODECS.length];
    const isEncrypted = (view[0] & ENCRYPTED) !== 0;
    const plain = isEncrypted ? decrypt(CIPHER, stored, codec === 'none' ? size : undefined) : stored;
    ensure(decodeFrame(codec, plain, size).length === size, 'another size than promised');
    return `${codec}${isEncrypted ? ' encrypted' : ''}`;
  },
};
