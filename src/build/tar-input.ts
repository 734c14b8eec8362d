import type { FileHandle } from 'node:fs/promises';
import { type ByteReader, createByteReader } from '../codec/byte-reader.ts';
import { corrupt } from '../errors.ts';
import type { Content } from '../formats/rafs/write/source.ts';
import type { TarInput } from '../formats/tar/read.ts';
import type { SparseMap } from '../formats/tar/sparse.ts';
import type { Spool } from './spool.ts';

const WINDOW = 256 << 10;

/** A tar that comes as a stream: what its files hold is put aside. */
export function streamTarInput(stream: AsyncIterable<Uint8Array>, spool: Spool): TarInput & ByteReader {
  const reader = createByteReader(stream);

  /** Passes the next bytes on, as they come. */
  async function each(length: number, use: (piece: Uint8Array) => Promise<void> | void): Promise<void> {
    for (let missing = length; missing > 0; ) {
      const piece = await reader.some(missing);
      if (!piece) throw corrupt('tar', 'data', reader.position, 'is cut short');
      missing -= piece.length;
      await use(piece);
    }
  }

  return {
    get position() {
      return reader.position;
    },
    some: reader.some,
    take: reader.take,
    skip: (length) => each(length, () => {}),
    async keep(length, map) {
      const extents = map?.extents ?? [{ offset: 0, length }];
      const place = spool.reserve(map?.size ?? length);
      for (const extent of extents) {
        let at = place.offset + extent.offset;
        await each(extent.length, async (piece) => {
          await spool.write(piece, at);
          at += piece.length;
        });
      }
      return place;
    },
  };
}

/** A tar in a file: what its files hold is read from there. Sparse files are put aside with their holes. */
export function fileTarInput(file: FileHandle, size: number, spool: Spool): TarInput {
  let position = 0;
  let window: Buffer = Buffer.alloc(0);
  let windowAt = 0;

  async function readAt(offset: number, length: number): Promise<Buffer> {
    const bytes = Buffer.allocUnsafeSlow(Math.max(0, Math.min(length, size - offset)));
    let done = 0;
    while (done < bytes.length) {
      const { bytesRead } = await file.read(bytes, done, bytes.length - done, offset + done);
      if (bytesRead === 0) break;
      done += bytesRead;
    }
    return bytes.subarray(0, done);
  }

  async function take(length: number): Promise<Buffer> {
    if (position < windowAt || position + length > windowAt + window.length) {
      windowAt = position;
      window = await readAt(position, Math.max(length, WINDOW));
    }
    const bytes = window.subarray(position - windowAt, position - windowAt + length);
    position += bytes.length;
    return bytes;
  }

  function skip(length: number): void {
    if (position + length > size) throw corrupt('tar', 'data', position, 'is cut short');
    position += length;
  }

  async function keepSparse(map: SparseMap): Promise<Content> {
    const place = spool.reserve(map.size);
    for (const extent of map.extents)
      for (let done = 0; done < extent.length; ) {
        const bytes = await readAt(position, Math.min(WINDOW, extent.length - done));
        skip(Math.max(bytes.length, 1));
        await spool.write(bytes, place.offset + extent.offset + done);
        done += bytes.length;
      }
    return place;
  }

  return {
    get position() {
      return position;
    },
    take,
    async skip(length) {
      skip(length);
    },
    async keep(length, map) {
      if (map) return keepSparse(map);
      const content: Content = { kind: 'range', fd: file.fd, offset: position };
      skip(length);
      return content;
    },
  };
}
