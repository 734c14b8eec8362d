/** Tars by hand, for what no program writes. */
import { Buffer } from 'node:buffer';

const BLOCK = 512;

export interface HeaderFields {
  name: string | Buffer;
  type: string;
  size: number;
  mode?: number;
  uid?: number;
  mtime?: number;
  linkName?: string;
  /** Writes the time as GNU does it for numbers that octal digits cannot hold. */
  base256?: boolean;
}

export function tarHeader(fields: HeaderFields): Buffer {
  const { name, type, size, mode = 0o644, uid = 0, mtime = 0, linkName = '', base256 = false } = fields;
  const header = Buffer.alloc(BLOCK);
  header.set(Buffer.from(name).subarray(0, 100));
  const octal = (value: number, at: number, length: number) =>
    header.write(value.toString(8).padStart(length - 1, '0'), at, 'latin1');
  octal(mode, 100, 8);
  octal(uid, 108, 8);
  octal(0, 116, 8);
  octal(size, 124, 12);
  if (base256) {
    header.fill(mtime < 0 ? 0xff : 0, 136, 148);
    header[136] |= 0x80;
    header.writeInt32BE(mtime, 144);
  } else octal(mtime, 136, 12);
  header.write(type, 156, 1, 'latin1');
  header.write(linkName, 157, 100);
  header.write('ustar\0' + '00', 257, 'latin1');
  header.fill(' ', 148, 156);
  octal(
    header.reduce((sum, byte) => sum + byte, 0),
    148,
    7,
  );
  header[155] = 0x20;
  return header;
}

export function padded(content: Uint8Array): Buffer {
  return Buffer.concat([content, Buffer.alloc(-content.length & (BLOCK - 1))]);
}

/** A regular file. */
export function tarMember(name: string, content: string | Uint8Array, fields: Partial<HeaderFields> = {}): Buffer {
  const bytes = Buffer.from(content as Uint8Array);
  return Buffer.concat([tarHeader({ name, type: '0', size: bytes.length, ...fields }), padded(bytes)]);
}

/** An extended header with records; values may be any bytes. */
export function tarPax(records: readonly (readonly [string, string | Uint8Array])[], type: 'x' | 'g' = 'x'): Buffer {
  const parts = records.map(([key, value]) => {
    const body = Buffer.concat([Buffer.from(` ${key}=`), Buffer.from(value as Uint8Array), Buffer.from('\n')]);
    let length = body.length + 1;
    while (String(length).length + body.length !== length) length = String(length).length + body.length;
    return Buffer.concat([Buffer.from(String(length)), body]);
  });
  const bytes = Buffer.concat(parts);
  return Buffer.concat([tarHeader({ name: 'pax', type, size: bytes.length }), padded(bytes)]);
}
