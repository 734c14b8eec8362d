import { corrupt } from '../../errors.ts';
import { ggufHeaderEnd } from './gguf.ts';
import { type FileRange, MOST_HEADER, type ReadAt } from './reading.ts';
import { zipDirectory } from './zip-directory.ts';

const MAGIC_SIZE = 16;

/**
 * What a reader needs of a file before its first tensor, told by its first bytes: the header of safetensors (8 bytes of
 * size, then JSON) and of GGUF, the directory of PyTorch's zip archives. Of others the beginning is all that is known.
 * @param read is asked for what has to be looked at, 1 MiB at most in one go
 * @throws NymphError `corrupt` for a header that cannot be one; what `read` throws
 */
export async function headerRanges(path: string, size: number, read: ReadAt): Promise<FileRange[]> {
  const head = Buffer.from(await read(0, Math.min(MAGIC_SIZE, size)));
  const magic = head.toString('latin1', 0, 4);
  if (magic === 'GGUF') return [{ offset: 0, length: await ggufHeaderEnd(size, read) }];
  if (magic === 'PK\x03\x04') return [await zipDirectory(size, read)];
  if (path.endsWith('.safetensors') && head.length > 8) return [safetensorsHeader(head, size)];
  return [];
}

function safetensorsHeader(head: Buffer, size: number): FileRange {
  const end = 8 + Number(head.readBigUInt64LE(0));
  if (head[8] !== 0x7b) throw corrupt('safetensors', 'header', 8, 'is no JSON object');
  if (end > Math.min(size, MOST_HEADER)) throw corrupt('safetensors', 'size of the header', 0, `is ${end - 8} bytes`);
  return { offset: 0, length: end };
}
