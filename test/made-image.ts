/** Images that tests build from a tree of their own: the tree stays as the truth to compare with. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeOciLayout } from '../src/build/oci-layout.ts';
import { type BuildOptions, buildRafsV6 } from '../src/formats/rafs/write/build.ts';
import { walkDirectory } from '../src/formats/rafs/write/directory.ts';

export interface MadeImage {
  /** OCI layout that holds the image under `tag`. */
  layout: string;
  tag: string;
  digest: string;
  /** The tree. */
  truth: string;
  /** Stored bytes of its blobs. */
  stored: number;
}

/**
 * Builds an image below `directory`.
 * @param name of its tree and blobs; also the tag. Images with the same `directory` share a layout.
 * @param fill makes the tree in an empty directory
 */
export async function makeImage(
  directory: string,
  name: string,
  fill: (tree: string) => void,
  options: Partial<BuildOptions> = {},
): Promise<MadeImage> {
  const truth = join(directory, `${name}-tree`);
  const blobs = join(directory, `${name}-blobs`);
  const layout = join(directory, 'layout');
  mkdirSync(truth, { recursive: true });
  fill(truth);
  const built = await buildRafsV6(walkDirectory(truth), {
    bootstrap: join(directory, `${name}-bootstrap`),
    blobs,
    ...options,
  });
  const { digest } = await writeOciLayout(layout, built, { tag: name, blobs });
  return { layout, tag: name, digest, truth, stored: built.blobs.reduce((sum, blob) => sum + blob.size, 0) };
}
