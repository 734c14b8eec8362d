import { BLOCK_SIZE } from '../image/image.ts';

const ENTRY_SIZE = 12;

export interface DirectoryEntry {
  /** Bytes as Latin-1 text. */
  name: string;
  nid: number;
  /** EROFS `file_type`. */
  type: number;
}

/** Names of a directory in blocks: what is known before inode numbers are. */
export interface DirectoryShape {
  /** Index of the first name of each block. */
  readonly starts: number[];
  /** Bytes of the directory: whole blocks, then what the last one uses. */
  readonly size: number;
}

/**
 * Splits a directory into blocks, each with its entries and their names.
 * @param names bytes as Latin-1 text, `.` and `..` included, ascending, each 1…255 bytes
 */
export function shapeDirectory(names: readonly string[]): DirectoryShape {
  const starts = [0];
  let used = 0;
  for (let i = 0; i < names.length; i++) {
    const need = ENTRY_SIZE + names[i].length;
    if (used + need > BLOCK_SIZE) {
      starts.push(i);
      used = 0;
    }
    used += need;
  }
  return { starts, size: (starts.length - 1) * BLOCK_SIZE + used };
}

/** Encodes a directory as its shape says. @param entries in the order of the names */
export function encodeDirectory(shape: DirectoryShape, entries: readonly DirectoryEntry[]): Buffer {
  const out = Buffer.alloc(shape.size);
  for (const [block, first] of shape.starts.entries()) {
    const end = shape.starts[block + 1] ?? entries.length;
    const start = block * BLOCK_SIZE;
    let name = (end - first) * ENTRY_SIZE;
    for (let i = first; i < end; i++) {
      const at = start + (i - first) * ENTRY_SIZE;
      out.writeBigUInt64LE(BigInt(entries[i].nid), at);
      out.writeUInt16LE(name, at + 8);
      out[at + 10] = entries[i].type;
      name += out.write(entries[i].name, start + name, 'latin1');
    }
  }
  return out;
}
