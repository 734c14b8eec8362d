import { corrupt } from '../errors.ts';

/**
 * A little-endian u64 at byte `at` of `view`, as a number.
 * @throws NymphError `corrupt` above 2^53 − 1: no size or offset that exists is that large
 */
export function readU64(view: DataView, at: number, structure: string, field: string): number {
  const high = view.getUint32(at + 4, true);
  if (high > 0x1fffff) throw corrupt(structure, field, at, 'larger than 2^53 - 1');
  return high * 0x1_0000_0000 + view.getUint32(at, true);
}
