import { constants, zstdCompressSync } from 'node:zlib';
import koffi from 'koffi';

/**
 * zstd frames out of one context for each thread. Node's own call makes a stream, a context and memory for every frame:
 * for 4 KiB it takes twice as long, for 1 MiB a sixth longer, and the collector's work comes on top. So Node's library is
 * called past it: the program offers its functions to addons. The frames are the same, byte by byte.
 */
interface Library {
  compress(out: Uint8Array, content: Uint8Array, level: number): number;
}

/** `ZSTD_compressBound`, and more than zlib's smallest buffer. */
const bound = (size: number): number => size + (size >> 8) + 128;

const library = openLibrary();
let scratch = Buffer.alloc(0);

/**
 * Encodes a frame that says its size. Synchronous: for work threads.
 * @returns the frame; it is there until the next call
 */
export function zstdFrame(content: Uint8Array, level: number): Uint8Array {
  if (library === undefined) return zstdFrameByNode(content, level);
  // With less room than the worst case takes, the last block would be coded in another way.
  if (scratch.length < bound(content.length)) scratch = Buffer.allocUnsafeSlow(bound(content.length));
  return scratch.subarray(0, library.compress(scratch, content, level));
}

/** The same by Node's own call, for a Node that keeps the functions to itself. */
export function zstdFrameByNode(content: Uint8Array, level: number): Uint8Array {
  // Small inputs get small tables, and the frame says its size. With room for all of it zstd goes over it in one pass.
  return zstdCompressSync(content, {
    params: { [constants.ZSTD_c_compressionLevel]: level },
    pledgedSrcSize: content.length,
    chunkSize: bound(content.length),
  });
}

/** @returns undefined where this program has no such functions */
function openLibrary(): Library | undefined {
  const program = koffi.load(null);
  let createContext: () => unknown;
  try {
    createContext = program.func('void *ZSTD_createCCtx()') as () => unknown;
  } catch {
    return undefined;
  }
  const setParameter = program.func('size_t ZSTD_CCtx_setParameter(void *context, int parameter, int value)');
  const compress = program.func(
    'size_t ZSTD_compress2(void *context, uint8_t *out, size_t room, const uint8_t *content, size_t size)',
  );
  const isError = program.func('unsigned int ZSTD_isError(size_t code)');
  const context = createContext();
  return {
    compress(out, content, level) {
      setParameter(context, constants.ZSTD_c_compressionLevel, level);
      const size = compress(context, out, out.length, content, content.length);
      if (isError(size) !== 0) throw new Error(`zstd cannot compress ${content.length} bytes: ${size}`);
      return size;
    },
  };
}
