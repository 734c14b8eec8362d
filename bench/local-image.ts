import { createCipheriv } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeOciLayout } from '../src/build/oci-layout.ts';
import { buildRafsV6 } from '../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';
import { makeManyFiles } from '../test/tree.ts';

/** A tree on disk and a Nydus image of it. */
export interface LocalImage {
  /** Small files four levels deep, and `big`. */
  tree: string;
  /** OCI layout with the tag `bench`. */
  layout: string;
  files: number;
  /** Of `big`. */
  bigBytes: number;
}

const GROUPS = 12;
const MIB = 1 << 20;

/** Makes them in `kept`, unless they are there: about 4 GB, a minute or two. */
export async function localImage(kept: string, quick: boolean): Promise<LocalImage> {
  const files = quick ? 6_000 : 60_000;
  const bigBytes = quick ? 128 * MIB : 1024 * MIB;
  const home = join(kept, quick ? 'local-quick' : 'local');
  const image = { tree: join(home, 'tree'), layout: join(home, 'layout'), files, bigBytes };
  const finished = join(home, 'finished');
  if (existsSync(finished)) return image;
  await rm(home, { recursive: true, force: true });
  for (let i = 0; i < GROUPS; i++) {
    const directory = join(image.tree, `part${i % 4}`, `group${i >> 2}`);
    await mkdir(directory, { recursive: true });
    makeManyFiles(directory, { count: files / GROUPS, seed: i + 1 });
  }
  await writeNoise(join(image.tree, 'big'), bigBytes);
  const built = await buildRafsV6(walkDirectory(image.tree), {
    bootstrap: join(home, 'bootstrap'),
    blobs: join(image.layout, 'blobs', 'sha256'),
  });
  await writeOciLayout(image.layout, built, { tag: 'bench' });
  await writeFile(finished, '');
  return image;
}

/** Bytes that do not compress: the key stream of AES, the same each time. */
export async function writeNoise(path: string, size: number): Promise<void> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, 'nymph'), Buffer.alloc(16));
  const zeros = Buffer.alloc(MIB);
  await using file = await open(path, 'w');
  for (let at = 0; at < size; at += MIB) await file.write(cipher.update(zeros));
}
