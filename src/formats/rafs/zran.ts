import { DIGEST_SIZE, digestOf } from '../../codec/digest.ts';
import { readU64 } from '../../erofs/fields.ts';
import { corrupt } from '../../errors.ts';
import { coverageLimit, createCoverage } from '../../image/coverage.ts';
import { CODECS, type FrameTable, MAX_DICTIONARY } from '../../image/image.ts';
import { type ChunkInfo, CONTEXT_SIZE } from './chunk-info.ts';

const STRUCTURE = 'RAFS inflate context';
/** Builders aim at 1 to 2 MiB and end a context with a chunk, of at most 16 MiB; nydusd refuses more than 16 MiB. */
const MAX_SIZE = 32 << 20;
const GZIP = CODECS.indexOf('gzip');

/**
 * The inflate contexts of a blob whose data is a gzip stream (nydus `storage/src/meta/zran.rs`): a frame for each, in
 * their order.
 * @param dataSize bytes of the gzip stream
 * @returns the dictionaries in a buffer of their own
 * @throws NymphError `corrupt`: what would not be a piece of the stream, or cost many times its size
 */
export function readZranContexts(
  info: ChunkInfo,
  dataSize: number,
): { frames: FrameTable; dictionaries: Uint8Array<ArrayBuffer> } {
  const { view, contextOffset, contextCount: count, contextEnd } = info;
  const start = contextOffset + count * CONTEXT_SIZE;
  if (contextEnd < start) throw corrupt(STRUCTURE, 'ci_zran_size', 48, 'is less than the contexts take');
  const dictionaries = new Uint8Array(view.buffer, view.byteOffset + start, contextEnd - start).slice();
  const frames = {
    count,
    offset: new Float64Array(count),
    size: new Uint32Array(count),
    decodedSize: new Uint32Array(count),
    codec: new Uint8Array(count).fill(GZIP),
    contexts: {
      bits: new Uint8Array(count),
      value: new Uint8Array(count),
      dictionaryOffset: new Float64Array(count),
      dictionarySize: new Uint32Array(count),
      dictionaryDigest: new Uint8Array(count * DIGEST_SIZE),
    },
  };
  const { contexts } = frames;
  const covers = createCoverage(coverageLimit(frames));
  let dictionaryEnd = 0;
  for (let i = 0; i < count; i++) {
    const at = contextOffset + i * CONTEXT_SIZE;
    const offset = readU64(view, at, STRUCTURE, 'in_offset');
    const dictionaryOffset = readU64(view, at + 16, STRUCTURE, 'dict_offset');
    const size = view.getUint32(at + 24, true);
    const decodedSize = view.getUint32(at + 28, true);
    const dictionarySize = view.getUint32(at + 32, true);
    const bits = view.getUint8(at + 37);
    if (size === 0 || size > MAX_SIZE || offset + size > dataSize)
      throw corrupt(STRUCTURE, 'in_len', at + 24, `${size} bytes from ${offset} on, of ${dataSize}`);
    if (decodedSize === 0 || decodedSize > MAX_SIZE)
      throw corrupt(STRUCTURE, 'out_len', at + 28, `${decodedSize}, of at most ${MAX_SIZE}`);
    if (!covers(offset, size)) throw corrupt(STRUCTURE, 'in_offset', at, 'out of order, or too many overlap');
    if (dictionarySize > MAX_DICTIONARY)
      throw corrupt(STRUCTURE, 'dict_size', at + 32, `${dictionarySize}, of at most ${MAX_DICTIONARY}`);
    if (bits > 7) throw corrupt(STRUCTURE, 'ctx_bits', at + 37, `${bits}`);
    frames.offset[i] = offset;
    frames.size[i] = size;
    frames.decodedSize[i] = decodedSize;
    contexts.bits[i] = bits;
    contexts.value[i] = view.getUint8(at + 36) >> (8 - bits);
    if (dictionarySize === 0) continue;
    if (dictionaryOffset < dictionaryEnd || dictionaryOffset + dictionarySize > dictionaries.length)
      throw corrupt(STRUCTURE, 'dict_offset', at + 16, 'overlaps others, or is outside the dictionaries');
    dictionaryEnd = dictionaryOffset + dictionarySize;
    contexts.dictionaryOffset[i] = dictionaryOffset;
    contexts.dictionarySize[i] = dictionarySize;
    const digest = digestOf('blake3', dictionaries.subarray(dictionaryOffset, dictionaryEnd));
    contexts.dictionaryDigest.set(digest, i * DIGEST_SIZE);
  }
  return { frames, dictionaries };
}
