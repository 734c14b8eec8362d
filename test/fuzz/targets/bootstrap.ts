/** RAFS v6 bootstraps: super-blocks, tables, inodes, directories, attributes, chunk addresses. */
import { openBootstrap, readImage } from '../../../src/formats/rafs/bootstrap.ts';
import { exampleBootstraps } from '../example-images.ts';
import { checkAccepted } from '../image-checks.ts';
import { randomBootstrap } from '../random-images.ts';
import type { Target } from '../target.ts';

export const target: Target = {
  name: 'bootstrap',
  seeds: exampleBootstraps,
  generate: randomBootstrap,
  limit: 48 << 10,
  share: 3,
  run(input) {
    const bootstrap = openBootstrap(Uint8Array.from(input));
    // What more has to be read is the matter of the target `load`.
    if (bootstrap.blobs.some((blob) => blob.needsChunkInfo)) return 'needs chunk information';
    const { image, counts } = readImage(bootstrap);
    return checkAccepted(bootstrap.erofs.bytes, image, counts);
  },
};
