/** Tar headers (POSIX ustar and GNU), as far as Nydus objects use them. */
export interface TarHeader {
  /** Latin-1, without leading `./` or `/`. */
  name: string;
  /** Bytes of data. */
  size: number;
  /** One character: '0' regular file, '5' directory, … */
  type: string;
}

export const TAR_BLOCK_SIZE = 512;
const CHECKSUM_OFFSET = 148;
const CHECKSUM_SIZE = 8;
const SPACE = 0x20;

/**
 * Reads the header at byte `at`.
 * @returns undefined if there is no header with a right checksum
 */
export function readTarHeader(bytes: Uint8Array, at: number): TarHeader | undefined {
  if (at < 0 || at + TAR_BLOCK_SIZE > bytes.length) return undefined;
  const header = Buffer.from(bytes.buffer, bytes.byteOffset + at, TAR_BLOCK_SIZE);
  const size = readOctal(header, 124, 12);
  if (size === undefined || readOctal(header, CHECKSUM_OFFSET, CHECKSUM_SIZE) !== checksum(header)) return undefined;
  const name = text(header, 0, 100);
  // POSIX has "ustar\0" here and may have the front of a long name behind; GNU has "ustar " and other fields there.
  const prefix = header.toString('latin1', 257, 263) === 'ustar\0' ? text(header, 345, 155) : '';
  const type = header[156] === 0 ? '0' : String.fromCharCode(header[156]);
  return { name: (prefix === '' ? name : `${prefix}/${name}`).replace(/^(\.?\/)+/, ''), size, type };
}

function checksum(header: Buffer): number {
  let sum = CHECKSUM_SIZE * SPACE;
  for (let i = 0; i < TAR_BLOCK_SIZE; i++) {
    if (i < CHECKSUM_OFFSET || i >= CHECKSUM_OFFSET + CHECKSUM_SIZE) sum += header[i];
  }
  return sum;
}

function text(header: Buffer, at: number, length: number): string {
  const field = header.toString('latin1', at, at + length);
  const end = field.indexOf('\0');
  return end < 0 ? field : field.slice(0, end);
}

function readOctal(header: Buffer, at: number, length: number): number | undefined {
  const digits = text(header, at, length).trim();
  return /^[0-7]{1,12}$/.test(digits) ? Number.parseInt(digits, 8) : undefined;
}
