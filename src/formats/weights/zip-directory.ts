import { corrupt } from '../../errors.ts';
import { type FileRange, MOST_HEADER, type ReadAt } from './reading.ts';

/**
 * The central directory of a zip archive, which is at its end, behind all members: with it readers of PyTorch's archives
 * begin. Source: APPNOTE.TXT of PKWARE, 4.3.12 to 4.3.16.
 */

const END = 0x06054b50;
const END_SIZE = 22;
const MOST_COMMENT = 0xffff;
const LOCATOR = 0x07064b50;
const LOCATOR_SIZE = 20;
const END_64 = 0x06064b50;
const END_64_SIZE = 56;

/**
 * @param size of the file @returns the directory, and all behind it
 * @throws NymphError `corrupt` where there is none, or one that lies behind its end or is larger than {@link MOST_HEADER}
 */
export async function zipDirectory(size: number, read: ReadAt): Promise<FileRange> {
  const length = Math.min(size, END_SIZE + MOST_COMMENT + LOCATOR_SIZE);
  const tail = Buffer.from(await read(size - length, length));
  const end = findEnd(tail);
  if (end < 0) throw corrupt('zip archive', 'end of the directory', size - length, 'is not there');
  const locator = end - LOCATOR_SIZE;
  const isLarge = locator >= 0 && tail.readUInt32LE(locator) === LOCATOR;
  const offset = isLarge ? await offset64(Number(tail.readBigUInt64LE(locator + 8))) : tail.readUInt32LE(end + 16);
  if (offset > size - (tail.length - end) || size - offset > MOST_HEADER)
    throw corrupt('zip archive', 'offset of the directory', size - length + end + 16, `${offset} is impossible`);
  return { offset, length: size - offset };

  async function offset64(at: number): Promise<number> {
    if (at > size - END_64_SIZE) throw corrupt('zip archive', 'locator', at, 'leads behind the end');
    const record = Buffer.from(await read(at, END_64_SIZE));
    if (record.length < END_64_SIZE || record.readUInt32LE(0) !== END_64)
      throw corrupt('zip archive', 'locator', at, 'leads to no end of a directory');
    return Number(record.readBigUInt64LE(48));
  }
}

/** Behind the record is a comment up to the end of the file, mostly none. */
function findEnd(tail: Buffer): number {
  for (let at = tail.length - END_SIZE; at >= 0; at--)
    if (tail.readUInt32LE(at) === END && at + END_SIZE + tail.readUInt16LE(at + 20) === tail.length) return at;
  return -1;
}
