import { hash, randomBytes } from 'node:crypto';
import type { SwarmObject } from '../../src/sources/swarm.ts';

/**
 * An object of random bytes for a swarm, which notes each time whether its last login was refused.
 * @param origin its address, with `DIGEST` for its digest
 */
export function swarmObject(
  origin: string,
  size: number,
): { bytes: Buffer; object: SwarmObject & { refusals: boolean[] } } {
  const bytes = randomBytes(size);
  const digest = `sha256:${hash('sha256', bytes)}` as const;
  const refusals: boolean[] = [];
  const object = {
    digest,
    refusals,
    async location(_: AbortSignal, refused: number) {
      if (refused > 1) return undefined;
      refusals.push(refused > 0);
      const headers = { authorization: refused > 0 ? 'Bearer new' : 'Bearer old' };
      return { url: new URL(origin.replace('DIGEST', digest)), headers, certificates: [] };
    },
  };
  return { bytes, object };
}
