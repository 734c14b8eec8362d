/** The bytes of a stream, in order and in the sizes that a parser wants. */
export interface ByteReader {
  /** Bytes that were given out. */
  readonly position: number;
  /** The next `length` bytes, fewer at the end of the stream. Small lengths: they are held in memory. */
  take(length: number): Promise<Buffer>;
  /** The next bytes, at most `length`, as they came; undefined at the end. */
  some(length: number): Promise<Uint8Array | undefined>;
}

export function createByteReader(stream: AsyncIterable<Uint8Array>): ByteReader {
  const source = stream[Symbol.asyncIterator]();
  let piece = new Uint8Array();
  let position = 0;

  async function some(length: number): Promise<Uint8Array | undefined> {
    while (piece.length === 0) {
      const next = await source.next();
      if (next.done) return undefined;
      piece = next.value as Uint8Array<ArrayBuffer>;
    }
    const given = piece.subarray(0, length);
    piece = piece.subarray(given.length);
    position += given.length;
    return given;
  }

  return {
    get position() {
      return position;
    },
    some,
    async take(length) {
      const parts: Uint8Array[] = [];
      for (let missing = length; missing > 0; ) {
        const part = await some(missing);
        if (!part) break;
        parts.push(part);
        missing -= part.length;
      }
      return parts.length === 1
        ? Buffer.from(parts[0].buffer, parts[0].byteOffset, parts[0].length)
        : Buffer.concat(parts);
    },
  };
}
