/** RAFS v6 bootstraps: super-blocks, tables, inodes, directories, attributes, chunk addresses. */
import { S_IFLNK, S_IFMT } from '../../../src/erofs/inode.ts';
import { resolvePath } from '../../../src/erofs/resolve.ts';
import type { Erofs } from '../../../src/erofs/super-block.ts';
import { walkTree } from '../../../src/erofs/walk.ts';
import { openBootstrap, readImage } from '../../../src/formats/rafs/bootstrap.ts';
import { describeBootstrap } from '../../../src/formats/rafs/describe.ts';
import { indexStartupFiles, type StartupFiles } from '../../../src/formats/rafs/startup-files.ts';
import type { BlobRange, Image } from '../../../src/image/image.ts';
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
    checkStartup(indexStartupFiles(bootstrap.erofs), result.image);
    checkPaths(bootstrap.erofs);
    const { image, counts } = result;
    return checkAccepted(bootstrap.erofs.bytes, image, counts);
  },
};

/** They are fetched before anybody asks for them. */
function checkStartup({ accounts, executables, libraries, modules }: StartupFiles, image: Image): void {
  const isInBlob = ({ blob, offset, length }: BlobRange, what: string) =>
    ensure(offset >= 0 && length >= 0 && offset < (image.blobs[blob]?.size ?? 0), `${what} is in no blob`);
  for (const [name, range] of libraries) {
    ensure(name !== '' && !name.includes('/'), 'a library that is a path');
    isInBlob(range, JSON.stringify(name));
  }
  for (const range of accounts) isInBlob(range, 'a file of accounts');
  if (modules?.locale !== undefined) isInBlob(modules.locale, 'a locale');
  for (const { blob, offset, size } of modules === undefined ? [executables] : [executables, modules])
    for (const [row, start] of offset.entries())
      isInBlob({ blob: blob[row], offset: start, length: size[row] }, 'a program');
}

/** What is found from above is what is found by its path. */
function checkPaths(erofs: Erofs): void {
  walkTree(erofs, (visit) => {
    const bytes = visit.path();
    const path = bytes.toString();
    if (!Buffer.from(path).equals(bytes)) return;
    const found = resolvePath(erofs, path);
    const { nid, mode } = visit.inode;
    if ((mode & S_IFMT) !== S_IFLNK) ensure(found?.nid === nid, `${JSON.stringify(path)} leads elsewhere`);
  });
}
