/** Inputs of several parts: each with its length before it (u32, little endian), the rest is the last. */
export function joinParts(...parts: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    parts.flatMap((part, i) => {
      if (i === parts.length - 1) return [part];
      const length = Buffer.alloc(4);
      length.writeUInt32LE(part.length);
      return [length, part];
    }),
  );
}

/** Always as many as are wanted, whatever the bytes are. */
export function splitParts(input: Uint8Array, count: number): Buffer[] {
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.length);
  const parts: Buffer[] = [];
  let at = 0;
  while (parts.length < count - 1) {
    const length = at + 4 <= bytes.length ? bytes.readUInt32LE(at) : 0;
    at = Math.min(at + 4, bytes.length);
    parts.push(bytes.subarray(at, Math.min(at + length, bytes.length)));
    at = Math.min(at + length, bytes.length);
  }
  return [...parts, bytes.subarray(at)];
}
