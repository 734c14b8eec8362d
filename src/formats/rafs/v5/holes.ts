import { digestOf } from '../../../codec/digest.ts';
import type { DigestAlgorithm } from '../../../image/image.ts';
import { unsupported } from '../flags.ts';

/** Zeros that may be hashed for one image: a hole may be as long as it likes, and each length has a digest of its own. */
const BUDGET = 1 << 30;

/** Digests of zeros, by their number. @throws NymphError `unsupported` where that is too much work */
export function createZeroDigests(algorithm: DigestAlgorithm): (size: number) => Uint8Array {
  const known = new Map<number, Uint8Array>();
  let hashed = 0;
  return (size) => {
    let digest = known.get(size);
    if (digest === undefined) {
      hashed += size;
      if (hashed > BUDGET) throw unsupported('RAFS v5 image: holes of too many different lengths');
      digest = digestOf(algorithm, new Uint8Array(size));
      known.set(size, digest);
    }
    return digest;
  };
}
