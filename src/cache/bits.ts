/** Bitmaps as bytes: block `i` in byte `i >> 3`, bit `i & 7`. Arguments of one call have the same length. */

/** Bits that are in both. */
export function intersect(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const both = new Uint8Array(a.length);
  for (let i = 0; i < a.length; i++) both[i] = a[i] & b[i];
  return both;
}

/** Bits of `a` that are not in `b`. */
export function subtract(a: Uint8Array, b: Uint8Array): Uint8Array<ArrayBuffer> {
  const rest = new Uint8Array(a.length);
  for (let i = 0; i < a.length; i++) rest[i] = a[i] & ~b[i];
  return rest;
}

export function hasBit(bits: Uint8Array, index: number): boolean {
  return (bits[index >>> 3] & (1 << (index & 7))) !== 0;
}

/** True if any of the bits `[first, last]` is set. */
export function hasAnyBit(bits: Uint8Array, first: number, last: number): boolean {
  for (let index = first; index <= last; index++) if (hasBit(bits, index)) return true;
  return false;
}
