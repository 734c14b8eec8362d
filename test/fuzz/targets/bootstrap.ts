/** RAFS v6 bootstraps: super-blocks, tables, inodes, directories, attributes, chunk addresses. */
import { openBootstrap, readImage } from '../../../src/formats/rafs/bootstrap.ts';
import { describeBootstrap } from '../../../src/formats/rafs/describe.ts';
import type { LibraryIndex } from '../../../src/formats/rafs/libraries.ts';
import { indexStartupFiles } from '../../../src/formats/rafs/startup-files.ts';
import type { Image } from '../../../src/image/image.ts';
import { exampleBootstraps } from '../example-images.ts';
import { checkAccepted } from '../image-checks.ts';
import { randomBootstrap } from '../random-images.ts';
import { ensure, type Target } from '../target.ts';

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
    const result = readImage(bootstrap);
    describeBootstrap(bootstrap, result);
    checkLibraries(indexStartupFiles(bootstrap.erofs).libraries, result.image);
    const { image, counts } = result;
    return checkAccepted(bootstrap.erofs.bytes, image, counts);
  },
};

/** They are fetched before anybody asks for them. */
function checkLibraries(libraries: LibraryIndex, image: Image): void {
  for (const [name, { blob, offset, length }] of libraries) {
    ensure(name !== '' && !name.includes('/'), 'a library that is a path');
    ensure(offset >= 0 && length >= 0 && offset < image.blobs[blob].size, `${JSON.stringify(name)} is in no blob`);
  }
}
