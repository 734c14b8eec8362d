import { createReadStream } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { BuiltImage } from '../formats/rafs/write/build.ts';
import { REF_NAME } from '../sources/layout.ts';
import { openLayoutTarget } from '../sources/layout-target.ts';
import type { Descriptor } from '../sources/source.ts';
import { type BlobToPut, bytesToPut } from '../sources/target.ts';
import { packageImage } from './package.ts';

export interface LayoutOptions {
  /** `org.opencontainers.image.ref.name` in the index; an image with this name is replaced. */
  tag: string;
  /** Where the blobs are, named by their ids; they get a hard link in the layout. Default: already in the layout. */
  blobs?: string;
  /** Fields of the OCI config besides `rootfs`, for example `config`. Default `{ architecture: 'amd64', os: 'linux' }`. */
  config?: Record<string, unknown>;
}

/**
 * Puts a built image into an OCI layout. The layout is made where there is none; other images in it stay.
 * @param layout directory
 * @returns the manifest's descriptor, as it is in the index
 */
export async function writeOciLayout(layout: string, image: BuiltImage, options: LayoutOptions): Promise<Descriptor> {
  const signal = new AbortController().signal;
  const target = openLayoutTarget({ kind: 'layout', path: layout });
  const packed = await packageImage(
    { bootstrap: await readFile(image.bootstrap), blobs: image.blobs },
    { config: options.config ?? { architecture: 'amd64', os: 'linux' } },
  );
  const blobs = options.blobs ?? join(layout, 'blobs', 'sha256');
  for (const [i, blob] of packed.blobs.entries())
    await target.put(fileToPut(blob, join(blobs, image.blobs[i].id)), signal);
  for (const { descriptor, bytes } of [packed.config, packed.bootstrap])
    await target.put(bytesToPut(descriptor, bytes), signal);
  await target.putManifest(packed.manifest, { tag: options.tag }, signal);
  return { ...packed.manifest.descriptor, annotations: { [REF_NAME]: options.tag } };
}

/** Content that is in a file. */
export function fileToPut({ digest, size }: Pick<Descriptor, 'digest' | 'size'>, file: string): BlobToPut {
  return { digest, size, file, read: async (offset) => createReadStream(file, { start: offset }) };
}
