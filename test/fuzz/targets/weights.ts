/** Headers of weight files: any file of a model, of which some of the first and last bytes are looked at. */
import { headerRanges } from '../../../src/formats/weights/header.ts';
import { ensure, type Target } from '../target.ts';

/** Claims of the size are about a large file, of which the input is the beginning and the end. */
const SIZE = 2 ** 32;
const MOST_READ = 256 << 20;

function gguf(): Buffer {
  const bytes = Buffer.alloc(160);
  bytes.write('GGUF\x03');
  bytes.writeUInt32LE(1, 8);
  bytes.writeUInt32LE(2, 16);
  // A number; strings; a tensor of two dimensions.
  bytes.writeUInt32LE(1, 24);
  bytes.write('a', 32);
  bytes.writeUInt32LE(4, 33);
  bytes.writeUInt32LE(1, 41);
  bytes.write('b', 49);
  bytes.writeUInt32LE(9, 50);
  bytes.writeUInt32LE(8, 54);
  bytes.writeUInt32LE(2, 58);
  bytes.writeUInt32LE(2, 66);
  bytes.writeUInt32LE(3, 76);
  bytes.writeUInt32LE(1, 87);
  bytes.write('t', 95);
  bytes.writeUInt32LE(2, 96);
  return bytes;
}

function zip(isLarge: boolean): Buffer {
  const bytes = Buffer.alloc(16 + 56 + 20 + 22);
  bytes.write('PK\x03\x04');
  bytes.writeUInt32LE(0x06064b50, 16);
  bytes.writeBigUInt64LE(BigInt(SIZE - 1000), 64);
  if (isLarge) bytes.writeUInt32LE(0x07064b50, 72);
  bytes.writeBigUInt64LE(BigInt(SIZE - 98), 80);
  bytes.writeUInt32LE(0x06054b50, 92);
  bytes.writeUInt32LE(isLarge ? 0xffff_ffff : SIZE - 1000, 108);
  return bytes;
}

function safetensors(): Buffer {
  const bytes = Buffer.alloc(32, ' ');
  bytes.writeBigUInt64LE(24n);
  bytes.write('{}', 8);
  return bytes;
}

export const target: Target = {
  name: 'weights',
  seeds: () => [gguf(), zip(false), zip(true), safetensors()],
  words: ['GGUF', 'PK\x03\x04'],
  limit: 4 << 10,
  memory: 512 << 20,
  async run(input) {
    let seen = 0;
    const read = async (offset: number, length: number) => {
      ensure(offset >= 0 && length > 0 && offset + length <= SIZE, `${length} bytes at ${offset}`);
      seen += length;
      ensure(seen <= MOST_READ, 'more is looked at than any header has');
      const bytes = Buffer.alloc(length);
      if (offset < input.length) bytes.set(input.subarray(offset, offset + length));
      const tail = SIZE - input.length;
      const at = Math.max(0, tail - offset);
      if (at < length) bytes.set(input.subarray(offset + at - tail, offset + length - tail), at);
      return bytes;
    };
    const ranges = await headerRanges('model.safetensors', SIZE, read);
    for (const { offset, length } of ranges)
      ensure(offset >= 0 && length > 0 && offset + length <= SIZE, `the range ${offset}+${length}`);
    return `${ranges.length} ${seen > 16}`;
  },
};
