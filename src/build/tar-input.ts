import type { FileHandle } from 'node:fs/promises';
import type { ByteReader } from '../codec/byte-reader.ts';
import type { Content } from '../formats/rafs/write/source.ts';
import { seekableTar, streamedTar } from '../formats/tar/bytes.ts';
import type { TarInput } from '../formats/tar/read.ts';
import type { SparseMap } from '../formats/tar/sparse.ts';
import type { Spool } from './spool.ts';

const PIECE = 256 << 10;

/** A tar that comes as a stream: what its files hold is put aside. */
export function streamTarInput(stream: AsyncIterable<Uint8Array>, spool: Spool): TarInput & ByteReader {
  const tar = streamedTar(stream);
  return {
    get position() {
      return tar.position;
    },
    some: tar.some,
    take: tar.take,
    skip: tar.skip,
    async keep(length, map) {
      const extents = map?.extents ?? [{ offset: 0, length }];
      const place = spool.reserve(map?.size ?? length);
      for (const extent of extents) {
        let at = place.offset + extent.offset;
        await tar.each(extent.length, async (piece) => {
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
  const tar = seekableTar(readAt, size);

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

  async function keepSparse(map: SparseMap): Promise<Content> {
    const place = spool.reserve(map.size);
    for (const extent of map.extents)
      for (let done = 0; done < extent.length; ) {
        const bytes = await readAt(tar.position, Math.min(PIECE, extent.length - done));
        await tar.skip(Math.max(bytes.length, 1));
        await spool.write(bytes, place.offset + extent.offset + done);
        done += bytes.length;
      }
    return place;
  }

  return {
    get position() {
      return tar.position;
    },
    take: tar.take,
    skip: tar.skip,
    async keep(length, map) {
      if (map) return keepSparse(map);
      const content: Content = { kind: 'range', fd: file.fd, offset: tar.position };
      await tar.skip(length);
      return content;
    },
  };
}
