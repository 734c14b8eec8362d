/** RAFS v5 bootstraps, which are checked and translated. */
import { digestOf } from '../../../src/codec/digest.ts';
import { openBootstrap, readImage } from '../../../src/formats/rafs/bootstrap.ts';
import { exampleBootstrapsV5 } from '../example-images.ts';
import { checkAccepted } from '../image-checks.ts';
import { randomBootstrapV5 } from '../random-images.ts';
import type { Target } from '../target.ts';

export const target: Target = {
  name: 'bootstrap-v5',
  seeds: exampleBootstrapsV5,
  generate: randomBootstrapV5,
  limit: 32 << 10,
  share: 3,
  repair: signInodes,
  run(input) {
    const bootstrap = openBootstrap(Uint8Array.from(input));
    const { image, counts } = readImage(bootstrap);
    return checkAccepted(bootstrap.erofs.bytes, image, counts);
  },
};

/** Digests of files and symlinks, then of directories, as often as they may be nested here. */
function signInodes(input: Buffer): void {
  if (input.length < 8192 || input.readUInt32LE(0) !== 0x52414653) return;
  const table = Number(input.readBigUInt64LE(32));
  const entries = Math.min(input.readUInt32LE(56), 256);
  const algorithm = (input.readUInt32LE(16) & 8) !== 0 ? 'sha256' : 'blake3';
  const records: number[] = [];
  for (let i = 0; i < entries && table + i * 4 + 4 <= input.length; i++) {
    const at = input.readUInt32LE(table + i * 4) * 8;
    records.push(at + 128 <= input.length ? at : -1);
  }
  const sign = (at: number, parts: Buffer) => input.set(digestOf(algorithm, parts), at);
  for (let depth = 0; depth < 3; depth++) {
    for (const at of records.toReversed()) {
      if (at < 0) continue;
      const type = input.readUInt32LE(at + 60) >> 12;
      const count = Math.min(input.readUInt32LE(at + 96), 1024);
      if (type === 4) {
        const first = input.readUInt32LE(at + 92) - 1;
        const children = records.slice(first, first + count).filter((child) => child >= 0);
        sign(at, Buffer.concat(children.map((child) => input.subarray(child, child + 32))));
      } else if (depth === 0) {
        const target = at + 128 + padded(input.readUInt16LE(at + 100));
        const size = input.readUInt16LE(at + 102);
        let chunks = target + padded(size);
        if ((input[at + 80] & 4) !== 0 && chunks + 8 <= input.length) chunks += 8 + padded(input.readUInt32LE(chunks));
        const digests = Array.from({ length: type === 8 ? count : 0 }, (_, k) =>
          input.subarray(chunks + k * 80, chunks + k * 80 + 32),
        );
        sign(at, type === 10 ? input.subarray(target, target + size) : Buffer.concat(digests));
      }
    }
  }
}

function padded(size: number): number {
  return Math.ceil(size / 8) * 8;
}
