/** Tries that a reproducer is worth. */
const MOST_TRIES = 2000;
const MOST_TIME = 10_000;

/**
 * Makes an input smaller and plainer as long as it does what it did.
 * @param same whether another input still does it
 */
export async function minimise(input: Uint8Array, same: (input: Uint8Array) => Promise<boolean>): Promise<Uint8Array> {
  let best: Buffer = Buffer.from(input);
  let tries = 0;
  const end = Date.now() + MOST_TIME;
  const takes = async (candidate: Buffer): Promise<boolean> => {
    if (tries++ >= MOST_TRIES || Date.now() > end || !(await same(candidate))) return false;
    best = candidate;
    return true;
  };
  for (let size = best.length >> 1; size >= 1; size >>= 1) {
    for (let at = best.length - size; at >= 0; at -= size)
      await takes(Buffer.concat([best.subarray(0, at), best.subarray(at + size)]));
  }
  // What must keep its place may still be nothing.
  for (let size = Math.max(1, best.length >> 1); size >= 1; size >>= 1) {
    for (let at = 0; at < best.length; at += size) {
      const part = best.subarray(at, at + size);
      if (part.every((byte) => byte === 0)) continue;
      await takes(Buffer.from(best).fill(0, at, Math.min(at + size, best.length)));
    }
  }
  return best;
}
