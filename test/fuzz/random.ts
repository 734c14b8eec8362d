/** Pseudo-random numbers: the same seed gives the same series (xorshift128, Marsaglia). */
export interface Random {
  /** A whole number from 0 to `limit` - 1. */
  int(limit: number): number;
  /** True once in `times`. */
  oneIn(times: number): boolean;
  pick<T>(list: readonly T[]): T;
}

export function createRandom(seed: number): Random {
  let [a, b, c, d] = [seed | 0, 0x9e3779b9, 0x243f6a88, 0xb7e15162];
  const next = (): number => {
    const t = a ^ (a << 11);
    [a, b, c] = [b, c, d];
    d = d ^ (d >>> 19) ^ t ^ (t >>> 8);
    return d >>> 0;
  };
  for (let i = 0; i < 16; i++) next();
  const int = (limit: number) => Math.floor((next() / 0x1_0000_0000) * limit);
  return { int, oneIn: (times) => int(times) === 0, pick: (list) => list[int(list.length)] };
}
