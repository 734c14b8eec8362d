/** Programs, as far as start-up readahead reads them: any file of an image. */
import { baseName, PROGRAM_HEADER_SIZE, readDynamic, readProgram, startsProgram } from '../../../src/formats/elf.ts';
import { ensure, type Target } from '../target.ts';

function program(): Buffer {
  const bytes = Buffer.alloc(1024);
  bytes.write('7f454c4602010100', 'hex');
  bytes.writeBigUInt64LE(64n, 32);
  bytes.writeBigUInt64LE(900n, 40);
  bytes.writeUInt16LE(56, 54);
  bytes.writeUInt16LE(3, 56);
  bytes.writeUInt16LE(64, 58);
  bytes.writeUInt16LE(1, 60);
  [
    [3, 300, 0, 20],
    [2, 400, 0, 96],
    [1, 0, 4096, 1000],
  ].forEach(([type, offset, address, size], i) => {
    const at = 64 + i * 56;
    bytes.writeUInt32LE(type, at);
    bytes.writeBigUInt64LE(BigInt(offset), at + 8);
    bytes.writeBigUInt64LE(BigInt(address), at + 16);
    bytes.writeBigUInt64LE(BigInt(size), at + 32);
  });
  bytes.write('/lib64/ld-linux.so.2\0', 300);
  [
    [1, 1],
    [1, 9],
    [5, 4096 + 600],
    [0, 0],
  ].forEach(([tag, value], i) => {
    bytes.writeBigUInt64LE(BigInt(tag), 400 + i * 16);
    bytes.writeBigUInt64LE(BigInt(value), 408 + i * 16);
  });
  bytes.write('\0libc.so.6\0libm.so\0', 600);
  return bytes;
}

export const target: Target = {
  name: 'elf',
  seeds: () => [program()],
  errors: [],
  limit: 8 << 10,
  run(input) {
    startsProgram(input);
    const found = readProgram(input.subarray(0, PROGRAM_HEADER_SIZE));
    if (found === undefined) return 'none';
    const { dynamic, interpreter } = found;
    for (const range of [dynamic, interpreter, ...found.segments])
      if (range)
        ensure(
          range.offset >= 0 && range.size >= 0 && Number.isSafeInteger(range.offset + range.size),
          'a range that is none',
        );
    const names = dynamic ? readDynamic(found, input.subarray(dynamic.offset, dynamic.offset + dynamic.size)) : [];
    ensure(names.length <= 256, 'too many names');
    for (const at of names) {
      ensure(Number.isSafeInteger(at) && at >= 0 && at < found.size, `a name at ${at}`);
      ensure(!baseName(input.subarray(at, at + 256)).includes('/'), 'a name that is a path');
    }
    return `${names.length > 0} ${interpreter !== undefined}`;
  },
};
