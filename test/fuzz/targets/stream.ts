/** Whole streams, as layers and tars come: gzip with members, zstd with frames, in pieces of any size. */
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { decompress, sniffCodec } from '../../../src/codec/decompress.ts';
import { ensure, type Target } from '../target.ts';

/** A reader that wants no more stops here. */
const MOST = 8 << 20;

export const target: Target = {
  name: 'stream',
  seeds() {
    const content = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * 7) ^ (i >> 3)));
    const skippable = Buffer.from('502a4d1803000000616263', 'hex');
    const zstd = zstdCompressSync(content);
    return [
      Buffer.concat([Buffer.from([200]), content]),
      Buffer.concat([Buffer.from([7]), gzipSync(content), gzipSync(content)]),
      Buffer.concat([Buffer.from([100]), zstd, skippable, zstd]),
      Buffer.concat([Buffer.from([255]), zstdCompressSync(Buffer.alloc(1 << 20))]),
      Buffer.concat([Buffer.from([255]), gzipSync(Buffer.alloc(1 << 20))]),
      Buffer.concat([Buffer.from([255]), zstdCompressSync(content.subarray(0, 20))]),
      Buffer.from('\x10BZh91AY&SY', 'latin1'),
      Buffer.from('10fd377a585a0000', 'hex'),
    ];
  },
  limit: 16 << 10,
  memory: 256 << 20,
  share: 0.05,
  native: true,
  async run(input) {
    const size = 1 + (input[0] ?? 0);
    const stored = input.subarray(1);
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < stored.length; at += size) yield stored.subarray(at, at + size);
    }
    const codec = sniffCodec(stored, 'stream');
    let read = 0;
    for await (const piece of decompress(pieces(), codec, 'stream')) {
      read += piece.length;
      if (read > MOST) break;
    }
    ensure(codec !== 'none' || read === stored.length, 'bytes were lost');
    return `${codec} ${Math.ceil(Math.log2(read + 1) / 4)}`;
  },
};
