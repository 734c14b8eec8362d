import { pipeline } from 'node:stream';
import { constants, createGunzip, createZstdDecompress } from 'node:zlib';
import { corrupt, NymphError } from '../errors.ts';
import type { StreamCodec } from '../image/image.ts';
import { splitZstdFrames } from './zstd-frames.ts';

const OUTPUT_SIZE = 256 << 10;
/** Windows up to 128 MiB, as `zstd --long` makes them. */
const ZSTD_WINDOW_LOG_MAX = 27;

/** Bytes that {@link sniffCodec} wants to see. */
export const SNIFF_SIZE = 6;

/**
 * Tells from its first bytes how a stream is packed.
 * @throws NymphError `unsupported` for packers that are known, but not read
 */
export function sniffCodec(start: Uint8Array, name: string): StreamCodec {
  const hex = Buffer.from(start.subarray(0, SNIFF_SIZE)).toString('hex');
  if (hex.startsWith('1f8b')) return 'gzip';
  if (hex.startsWith('28b52ffd') || /^5.2a4d18/.test(hex)) return 'zstd';
  const other = hex.startsWith('425a68') ? 'bzip2' : hex === 'fd377a585a00' ? 'xz' : undefined;
  if (other === undefined) return 'none';
  throw new NymphError('unsupported', `${name} is packed with ${other}`, {
    hint: `Unpack it first: ${other} -dc FILE | nymph build - …`,
  });
}

/**
 * Unpacks a stream; members and frames behind each other are one stream. Bounded memory.
 * @param name for errors
 * @throws NymphError `corrupt`, or what the stream throws
 */
export async function* decompress(
  stream: AsyncIterable<Uint8Array>,
  codec: StreamCodec,
  name: string,
): AsyncGenerator<Uint8Array> {
  if (codec === 'none') {
    yield* stream;
    return;
  }
  const decoder =
    codec === 'gzip'
      ? createGunzip({ chunkSize: OUTPUT_SIZE })
      : createZstdDecompress({
          chunkSize: OUTPUT_SIZE,
          params: { [constants.ZSTD_d_windowLogMax]: ZSTD_WINDOW_LOG_MAX },
        });
  // Errors of either side come out of the iteration.
  pipeline(codec === 'zstd' ? splitZstdFrames(stream) : stream, decoder, () => {});
  try {
    yield* decoder;
  } catch (error) {
    if (error instanceof NymphError) throw error;
    throw corrupt(name, codec, 0, (error as Error).message);
  }
}
