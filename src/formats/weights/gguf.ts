import { corrupt } from '../../errors.ts';
import { MOST_HEADER, type ReadAt } from './reading.ts';

/**
 * The header of GGUF files (versions 2 and 3, little-endian), as far as it takes to know where it ends: it has no size of
 * its own. Source: docs/gguf.md and src/gguf.cpp of ggml.
 *
 *   "GGUF" · u32 version · u64 tensors · u64 pairs · pairs · tensors
 *   pair = string key · u32 type · value            string = u64 length · bytes
 *   tensor = string name · u32 dimensions · u64 each · u32 type · u64 offset
 *
 * Arrays of arrays, which the format has and ggml refuses, are refused.
 */

const WINDOW = 1 << 20;
const STRING = 8;
const ARRAY = 9;
/** Bytes of a value, by type; those of strings and arrays follow from what they hold. */
const SIZES = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
const MOST_DIMENSIONS = 4;
/** Real files have some 50 pairs, and up to some 10,000 tensors. */
const MOST_PAIRS = 2 ** 16;
const MOST_TENSORS = 2 ** 20;

/**
 * @param size of the file @returns the first byte behind the descriptions of its tensors
 * @throws NymphError `corrupt` for what is no such header, and for one that would be larger than {@link MOST_HEADER}
 */
export async function ggufHeaderEnd(size: number, read: ReadAt): Promise<number> {
  const limit = Math.min(size, MOST_HEADER);
  let window: Buffer = Buffer.alloc(0);
  let start = 0;
  let at = 4;

  const wrong = (field: string, why: string) => corrupt('GGUF header', field, at, why);
  /** True if so many bytes are at hand: what follows needs no waiting, and a tokenizer has 100,000s of strings. */
  const has = (length: number) => at + length <= start + window.length;

  async function load(length: number): Promise<void> {
    if (at + length > limit) throw wrong('size', `it goes on behind byte ${limit}`);
    const bytes = await read(at, Math.min(WINDOW, limit - at));
    if (bytes.length < length) throw wrong('size', 'the file ends here');
    window = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);
    start = at;
  }

  function takeU32(): number {
    at += 4;
    return window.readUInt32LE(at - 4 - start);
  }

  /** What does not fit into a number is larger than any header, too. */
  function takeU64(): number {
    at += 8;
    return window.readUInt32LE(at - 8 - start) + window.readUInt32LE(at - 4 - start) * 2 ** 32;
  }

  function skip(length: number, field: string): void {
    if (at + length > limit) throw wrong(field, `has ${length} bytes: the header would go on behind byte ${limit}`);
    at += length;
  }

  async function skipStrings(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      if (!has(8)) await load(8);
      skip(takeU64(), 'string');
    }
  }

  async function skipValue(type: number): Promise<void> {
    if (type !== ARRAY) return skipValues(type, 1);
    if (!has(12)) await load(12);
    const inner = takeU32();
    await skipValues(inner, takeU64());
  }

  async function skipValues(type: number, count: number): Promise<void> {
    if (type === STRING) return skipStrings(count);
    const each = SIZES[type];
    if (each === undefined) throw wrong('type', `${type} is none that can be here`);
    skip(each * count, 'value');
  }

  await load(20);
  const version = takeU32();
  if (version !== 2 && version !== 3) throw wrong('version', `${version} is neither 2 nor 3`);
  const tensors = takeU64();
  const pairs = takeU64();
  if (tensors > MOST_TENSORS || pairs > MOST_PAIRS) throw wrong('counts', `${tensors} tensors, ${pairs} pairs`);
  for (let i = 0; i < pairs; i++) {
    await skipStrings(1);
    if (!has(4)) await load(4);
    await skipValue(takeU32());
  }
  for (let i = 0; i < tensors; i++) {
    if (!has(8)) await load(8);
    skip(takeU64(), 'name');
    if (!has(4)) await load(4);
    const dimensions = takeU32();
    if (dimensions > MOST_DIMENSIONS) throw wrong('dimensions', `${dimensions} are too many`);
    skip(8 * dimensions + 12, 'tensor');
  }
  return at;
}
