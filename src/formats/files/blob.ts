import { type StoredObject, UNPACKED_CHUNK } from '../../image/files.ts';
import { type Blob, CODECS } from '../../image/image.ts';

/**
 * What is fetched for a read: the largest request of the kernel. Over 20 ms and 2 Gbit/s it takes 4 ms longer than a page.
 */
const FRAME_SIZE = 1 << 20;
/** A file up to this is one chunk: its digest is that of the file, and it is verified before a byte is served. */
const ONE_CHUNK = 4 << 20;
/** Larger files have larger frames: tables are made of what somebody claims. */
const MOST_FRAMES = 2 ** 16;

/** The blob of an object: a file or a tar, as it stands or unpacked. @param object of at least one byte */
export function blobOf(object: StoredObject): Blob {
  const { id, digest, size, storedSize = size, whole, origin, location, unpacked } = object;
  const base = { id, digest, size, storedSize, ...(location !== undefined && { location }) };
  if (unpacked !== undefined) {
    const { codec, digests } = unpacked;
    const tables = cut(size, UNPACKED_CHUNK);
    const chunks = { ...tables.chunks, digest: digests };
    return { ...base, ...tables, chunks, digestAlgorithm: 'sha256', unpacked: codec };
  }
  if (whole?.algorithm === 'sha256' && size <= ONE_CHUNK)
    return {
      ...base,
      ...cut(size, size),
      chunks: { ...cut(size, size).chunks, digest: Buffer.from(whole.hex, 'hex') },
      digestAlgorithm: 'sha256',
    };
  return { ...base, ...cut(size, frameSizeOf(size)), digestAlgorithm: 'none', origin, ...(whole && { whole }) };
}

/** Frames of the blob of an object. */
export function frameCount({ size, unpacked }: StoredObject): number {
  return Math.ceil(size / (unpacked === undefined ? frameSizeOf(size) : UNPACKED_CHUNK));
}

function frameSizeOf(size: number): number {
  let frameSize = FRAME_SIZE;
  while (size / frameSize > MOST_FRAMES) frameSize *= 2;
  return frameSize;
}

/** Tables of a file that is stored as it is: each frame one chunk, at the same place. */
function cut(size: number, frameSize: number): Pick<Blob, 'chunks' | 'frames'> {
  const count = Math.ceil(size / frameSize);
  const offset = Float64Array.from({ length: count }, (_, i) => i * frameSize);
  const sizes = new Uint32Array(count).fill(frameSize);
  sizes[count - 1] = size - (count - 1) * frameSize;
  return {
    frames: {
      count,
      offset,
      size: sizes,
      decodedSize: sizes,
      codec: new Uint8Array(count).fill(CODECS.indexOf('none')),
    },
    chunks: {
      count,
      offset,
      size: sizes,
      digest: new Uint8Array(0),
      frame: Uint32Array.from({ length: count }, (_, i) => i),
      frameOffset: new Uint32Array(count),
    },
  };
}
