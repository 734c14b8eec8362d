import { corrupt } from '../../errors.ts';

/** One header of 512 bytes, as it stands (POSIX ustar, GNU and V7). Sizes and offsets in bytes. */
export interface TarHeader {
  name: Buffer;
  mode: number;
  uid: number;
  gid: number;
  size: number;
  mtime: number;
  /** One character: `0` regular file, `5` directory, … */
  type: string;
  linkName: Buffer;
  device: { major: number; minor: number };
}

export const TAR_BLOCK = 512;
const STRUCTURE = 'tar header';
const CHECKSUM = 148;
const CHECKSUM_END = 156;
const SPACE = 0x20;

/**
 * @param block 512 bytes; @param at where they stand, for errors
 * @throws NymphError `corrupt`
 */
export function parseTarHeader(block: Buffer, at: number): TarHeader {
  const sum = readNumber(block, CHECKSUM, 8, at, 'checksum');
  if (!checksums(block).includes(sum)) throw corrupt(STRUCTURE, 'checksum', at + CHECKSUM, 'is wrong');
  const isUstar = block.toString('latin1', 257, 263) === 'ustar\0';
  const isGnu = block.toString('latin1', 257, 265) === 'ustar  \0';
  const prefix = isUstar ? text(block, 345, 155) : Buffer.alloc(0);
  const name = text(block, 0, 100);
  const type = block[156] === 0 ? '0' : String.fromCharCode(block[156]);
  const number = (offset: number, length: number, field: string) => readNumber(block, offset, length, at, field);
  const hasDevice = (isUstar || isGnu) && (type === '3' || type === '4');
  return {
    name: prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]),
    mode: number(100, 8, 'mode'),
    uid: number(108, 8, 'uid'),
    gid: number(116, 8, 'gid'),
    size: number(124, 12, 'size'),
    mtime: number(136, 12, 'mtime'),
    type,
    linkName: text(block, 157, 100),
    device: hasDevice
      ? { major: number(329, 8, 'devmajor'), minor: number(337, 8, 'devminor') }
      : { major: 0, minor: 0 },
  };
}

/** True for the zeros that end an archive. */
export function isZeroBlock(block: Uint8Array): boolean {
  return block.every((byte) => byte === 0);
}

/**
 * A number: octal digits, or with the first bit set base 256, two's complement (GNU). An empty field is 0.
 * @throws NymphError `corrupt`
 */
export function readNumber(block: Buffer, offset: number, length: number, at: number, field: string): number {
  if ((block[offset] & 0x80) !== 0) {
    let value = BigInt.asIntN(7, BigInt(block[offset] & 0x7f));
    for (let i = offset + 1; i < offset + length; i++) value = (value << 8n) | BigInt(block[i]);
    const number = Number(value);
    if (!Number.isSafeInteger(number)) throw corrupt(STRUCTURE, field, at + offset, 'is too large');
    return number;
  }
  const digits = text(block, offset, length).toString('latin1').trim();
  if (digits === '') return 0;
  if (!/^[0-7]+$/.test(digits)) throw corrupt(STRUCTURE, field, at + offset, `is no number: ${JSON.stringify(digits)}`);
  return Number.parseInt(digits, 8);
}

/** The sum of the bytes, the field itself as spaces: as unsigned ones, and as signed ones, which old programs wrote. */
function checksums(block: Buffer): [number, number] {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < TAR_BLOCK; i++) {
    const byte = i >= CHECKSUM && i < CHECKSUM_END ? SPACE : block[i];
    unsigned += byte;
    signed += byte < 0x80 ? byte : byte - 0x100;
  }
  return [unsigned, signed];
}

function text(block: Buffer, offset: number, length: number): Buffer {
  const field = block.subarray(offset, offset + length);
  const end = field.indexOf(0);
  return Buffer.from(end < 0 ? field : field.subarray(0, end));
}
